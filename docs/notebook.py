"""Cells of a notebook: open a lake, ask it, train, predict, draw. Run it beside a `survey.lake`."""

import survey_qa

lake = survey_qa.open("survey.lake")
counts = lake.query("label_counts")
bands = lake.sql("select band, count(*) as n, avg(fwhm) as seeing from exposures group by band")
trained = lake.train("notebook", "statistics", force=True)
lake.predict("notebook")
lake.vote("notebook", min_probability=0.5)
votes = lake.table("votes", model="notebook").sort("n_bad", "expnum", descending=True).collect()
keys, vectors = lake.vectors("statistics")
worst = lake.focal_plane(votes["expnum"][0], images="survey/images")
change = lake.bad_expid_diff("survey/decam-bad_expid.txt", model="notebook")
