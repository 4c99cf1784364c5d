-- How many images a person looks at, the most likely bad first, until a share of the bad is found.
with

ranked as (

    select n, n_bad, n_before, n_bad_before, total, total_bad
    from scored_ranks
    where model = $model

),

shares as (

    select unnest($shares::double[]) as share

),

wanted as (

    select share, ceil(share * (select max(total_bad) from ranked) - 1e-9) as n_bad
    from shares

)

-- Of n alike with n_bad bad ones in an order by chance, the k-th bad one is number
-- k (n + 1) / (n_bad + 1) on average.
select
    wanted.share,
    wanted.n_bad::bigint as n_bad,
    n_before + (wanted.n_bad - n_bad_before) * (n + 1) / (ranked.n_bad + 1) as looks,
    (n_before + (wanted.n_bad - n_bad_before) * (n + 1) / (ranked.n_bad + 1)) / total
        as share_of_images,
    wanted.n_bad * (total + 1) / (total_bad + 1) as looks_by_chance
from wanted
inner join ranked
    on wanted.n_bad > n_bad_before
    and wanted.n_bad <= n_bad_before + ranked.n_bad
order by wanted.share
