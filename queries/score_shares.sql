-- Purity and completeness of bad exposures, against the share of bad CCDs that makes one bad.
with

exposed as (

    select class, voted, n_bad, n_ccds
    from scored_exposures
    where model = $model

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
