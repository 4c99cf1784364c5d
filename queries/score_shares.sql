-- Purity and completeness of bad exposures, against the share of bad CCDs that makes one bad.
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

),

shares as (

    select (range + 1) / $steps::integer as share
    from range($steps)

),

counts as (

    select
        shares.share,
        count(*) filter (where n_bad > 0 and n_bad >= share * n_ccds - 1e-9) as n_selected,
        count(*) filter (
            where class <> 'good' and n_bad > 0 and n_bad >= share * n_ccds - 1e-9
        ) as n_hits,
        count(*) filter (where class <> 'good') as n_true
    from exposed
    cross join shares
    group by all

)

select
    share,
    n_selected,
    n_hits / nullif(n_selected, 0) as purity,
    n_hits / nullif(n_true, 0) as completeness
from counts
order by share
