-- How many images a person looks at, the most likely bad first, until a share of the bad is found.
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
