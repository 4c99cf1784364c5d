-- View: what a model is scored with (its own split) in the order in which a person would look, the
-- least likely good first. Those that are alike, met in an order by chance, are one row: how many
-- they are (n), how many of them are bad, how many come before them, and how many there are in all.
with

counts as (

    select
        model,
        probabilities[1] as good_probability,
        count(*) as n,
        count(*) filter (where class <> 'good') as n_bad
    from scored_ccds
    where is_own and predicted is not null
    group by all

)

select
    model,
    good_probability,
    n,
    n_bad,
    (sum(n) over ranks - n)::bigint as n_before,
    (sum(n_bad) over ranks - n_bad)::bigint as n_bad_before,
    (sum(n) over (partition by model))::bigint as total,
    (sum(n_bad) over (partition by model))::bigint as total_bad
from counts
window ranks as (partition by model order by good_probability)
