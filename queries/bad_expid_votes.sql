-- The exposures that a model calls bad.
select
    expnum,
    class,
    n_bad,
    n_ccds
from votes
where model = $model and camera = $camera and is_bad
order by expnum
