"""The local web page: a camera's frames in, the expressions of the faces in them out."""
