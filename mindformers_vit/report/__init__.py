"""What a run leaves behind, as one page for a person: `output_dir/report.html`.

`facts` reads the files of an output directory, `page` words them, `svg` draws the curves. Nothing
here trains: `engine/callbacks/report_writer.py` collects what only a running network knows.
"""
