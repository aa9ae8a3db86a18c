"""The pieces of `illume demo`: a Label Studio of our own, drawn pictures, a project, their processes."""
