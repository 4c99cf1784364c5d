-- The verdict on each exposure of some nights, with what the observer calls it.
select
    votes.camera,
    votes.night,
    votes.expnum,
    exposures.band,
    exposures.object,
    votes.class,
    votes.probability,
    votes.n_bad,
    votes.n_ccds,
    votes.is_bad,
    exposures.image_filename
from votes
inner join exposures using (camera, night, expnum)
where votes.model = $model
    and exposures.release = $release
    and list_contains(string_split($nights, ','), votes.camera || '/' || votes.night::varchar)
order by votes.camera, votes.night, votes.expnum
