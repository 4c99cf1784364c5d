-- Precision in the top N of what a model has not seen, the most likely bad first.
with

scored as (

    select class, place, probabilities[1] as good_chance
    from scored_ccds
    where model = $model and is_own and predicted is not null

),

-- The least likely good first; where several are alike, a person meets them in an order by chance.
counts as (

    select good_chance, count(*) as n, count(*) filter (where class <> 'good') as n_bad
    from scored
    group by all

),

ranked as (

    select
        n,
        n_bad,
        sum(n) over ranks - n as n_before,
        sum(n_bad) over ranks - n_bad as n_bad_before,
        sum(n) over () as total,
        sum(n_bad) over () as total_bad
    from counts
    window ranks as (order by good_chance)

),

sizes as (

    select distinct least(unnest($sizes::bigint[]), (select count(*) from scored)) as looked

)

select
    sizes.looked,
    (n_bad_before + (looked - n_before) * n_bad / n)::double as n_bad,
    (n_bad_before + (looked - n_before) * n_bad / n) / looked as precision,
    (n_bad_before + (looked - n_before) * n_bad / n) / nullif(total_bad, 0) as completeness
from sizes
inner join ranked on looked > n_before and looked <= n_before + n
order by sizes.looked
