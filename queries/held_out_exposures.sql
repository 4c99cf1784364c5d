-- Exposures that a model has not seen: what their labels say, and what its vote.
select camera, night, expnum, class, voted, n_bad, n_ccds
from scored_exposures
where model = $model
order by camera, night, expnum
