"""Names that the command line offers before anything heavy is imported."""

SIDECAR_NAMES = ("full", "stem")  # of IMG_1.jpg: IMG_1.jpg.xmp, IMG_1.xmp
