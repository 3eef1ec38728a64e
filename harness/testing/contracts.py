"""Contract suites: subclass one in a test file, set ``name``, and pytest runs it.

    class TestMyMethod(MethodContract):
        name = "my_method"

Each test states one law that every entry of a registry keeps.
"""

from harness.testing.backbone_contract import BackboneContract
from harness.testing.method_contract import MethodContract
from harness.testing.task_contract import TaskContract

__all__ = ["BackboneContract", "MethodContract", "TaskContract"]
