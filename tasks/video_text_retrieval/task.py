"""Video-text retrieval: where its pairs come from."""

from tasks.retrieval.base import PairSource, RetrievalTask
from tasks.video_text_retrieval import CARD
from tasks.video_text_retrieval.sources import EXAMPLE, LAYOUT, FolderVideos, ScenesClips


class VideoTextRetrieval(RetrievalTask):
    """Retrieval between videos and their captions."""

    card, modality = CARD, "video"
    folder_layout, folder_example = LAYOUT, EXAMPLE

    def open(self) -> PairSource:
        """Return the source of the dataset; see ``RetrievalTask.open``."""
        if self.in_folder:
            return FolderVideos(self.dataset, self.data_dir, self.config.image_size)
        return ScenesClips()
