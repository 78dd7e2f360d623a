"""Names and texts that need nothing heavy."""

SIDECAR_NAMES = ("full", "stem")  # of IMG_1.jpg: IMG_1.jpg.xmp, IMG_1.xmp
# The use of an exported graph without c3 and torch, which docs/export.md and every model card show.
ONNX_EXAMPLE = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
about = json.loads(session.get_modelmeta().custom_metadata_map["c3"])
square, filtering = (about["resize"]["side"],) * 2, Image.Resampling[about["resize"]["filter"].upper()]
resized = ImageOps.fit if about["resize"]["fit"] == "shortest" else Image.Image.resize
image = resized(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"), square, filtering)
pixels = np.asarray(image).transpose(2, 0, 1)[None]
scores = session.run(None, {"pixels": pixels})[0][0]
for best in scores.argsort()[::-1][:5]:
    print(about["labels"][best], scores[best])
"""
