-- Exposures that a model has not seen: what their labels say, and what its vote.
with

-- Several classes on one exposure: the bad one of most of its CCDs; then by name.
truth as (

    select camera, night, expnum, class
    from holdouts
    where model = $model and predicted is null
    group by camera, night, expnum, class
    qualify row_number() over (
        partition by camera, night, expnum
        order by class = 'good', count(*) desc, class
    ) = 1

),

exposed as (

    select
        truth.camera,
        truth.night,
        truth.expnum,
        truth.class,
        -- A vote that finds bad CCDs alone names their class.
        votes.class as voted,
        votes.n_bad,
        votes.n_ccds
    from truth
    inner join votes using (camera, night, expnum)
    where votes.model = $model

)

select camera, night, expnum, class, voted, n_bad, n_ccds
from exposed
order by camera, night, expnum
