-- Precision in the top N of what a model has not seen, the most likely bad first.
with

ranked as (

    select n, n_bad, n_before, n_bad_before, total, total_bad
    from scored_ranks
    where model = $model

),

sizes as (

    select distinct least(unnest($sizes::bigint[]), (select max(total) from ranked)) as looked

)

select
    sizes.looked,
    (n_bad_before + (looked - n_before) * n_bad / n)::double as n_bad,
    (n_bad_before + (looked - n_before) * n_bad / n) / looked as precision,
    (n_bad_before + (looked - n_before) * n_bad / n) / nullif(total_bad, 0) as completeness
from sizes
inner join ranked on looked > n_before and looked <= n_before + n
order by sizes.looked
