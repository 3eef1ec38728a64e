"""Image-text retrieval: where its pairs come from."""

from tasks.image_text_retrieval import CARD
from tasks.image_text_retrieval.sources import EXAMPLE, LAYOUT, FolderCaptions, ScenesCaptions
from tasks.retrieval.base import PairSource, RetrievalTask


class ImageTextRetrieval(RetrievalTask):
    """Retrieval between images and their captions."""

    card, modality = CARD, "image"
    folder_layout, folder_example = LAYOUT, EXAMPLE

    def open(self) -> PairSource:
        """Return the source of the dataset; see ``RetrievalTask.open``."""
        if self.in_folder:
            return FolderCaptions(self.dataset, self.data_dir, self.config.image_size)
        return ScenesCaptions()
