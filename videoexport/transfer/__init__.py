"""Moves files to and from S3 through presigned URLs; what client and encoder share.

No error raised here shows a URL: whoever has a presigned URL can use it.
"""

from videoexport.transfer.downloading import download
from videoexport.transfer.pacing import (
    DEFAULT_PATIENCE,
    LocalFileError,
    OnProgress,
    Patience,
    TransferError,
)
from videoexport.transfer.uploading import upload_file

__all__ = [
    "DEFAULT_PATIENCE",
    "LocalFileError",
    "OnProgress",
    "Patience",
    "TransferError",
    "download",
    "upload_file",
]
