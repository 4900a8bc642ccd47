"""A page in the browser to try networks by: `basicsr web`."""
