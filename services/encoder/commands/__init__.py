"""From tasks to command lines of FFmpeg. Pure: no run is started here."""
