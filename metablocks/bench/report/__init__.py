"""Records for people and notebooks: one page of HTML, CSV, Markdown. Pure functions from records to text.

Whatever stands in a record came from outside: a results file may be anybody's. So numbers are looked at before they are
used (`facts`), and text is escaped in the one place that makes markup (`markup`).
"""
