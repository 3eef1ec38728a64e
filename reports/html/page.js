"use strict";

// A number's cell holds it in data-value; another cell is compared by its text, ignoring case.
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function compareCells(a, b) {
  if (a.dataset.value !== undefined && b.dataset.value !== undefined) {
    return Number(a.dataset.value) - Number(b.dataset.value);
  }
  return collator.compare(a.textContent.trim(), b.textContent.trim());
}

function isEmpty(cell) {
  return cell.textContent.trim() === "";
}

// Empty cells stay last in both directions.
function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const sign = direction === "ascending" ? 1 : -1;
  const rows = Array.from(body.rows);
  rows.sort((first, second) => {
    const a = first.cells[column];
    const b = second.cells[column];
    if (isEmpty(a) || isEmpty(b)) {
      return Number(isEmpty(a)) - Number(isEmpty(b));
    }
    return sign * compareCells(a, b);
  });
  body.append(...rows);
}

function onHeader(event) {
  const header = event.currentTarget.parentElement;
  const direction =
    header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of header.parentElement.cells) {
    other.removeAttribute("aria-sort");
  }
  header.setAttribute("aria-sort", direction);
  sortTable(header.closest("table"), header.cellIndex, direction);
}

// Every word must be somewhere in the row; a block without rows is hidden with its heading.
function filterRows(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const block of document.querySelectorAll("[data-filtered]")) {
    let shown = 0;
    for (const row of block.querySelectorAll("tbody tr")) {
      const found = row.dataset.text.toLowerCase();
      row.hidden = !words.every((word) => found.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    block.hidden = shown === 0;
  }
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", onHeader);
}
const box = document.querySelector("#filter");
box.addEventListener("input", () => filterRows(box.value));
