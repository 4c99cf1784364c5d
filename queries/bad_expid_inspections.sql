-- The verdicts of a round of inspection, an exposure or CCD a row: how many looked, how many call it bad.
with

last_look as (
    -- A later line of the same inspector replaces an earlier one.
    select
        expnum,
        ccdname,
        analyst,
        arg_max(is_bad is true, (file, line)) as is_bad,
        arg_max(reason, (file, line)) as reason
    from reports
    where source = 'inspection' and round = $round and camera = $camera
    group by expnum, ccdname, analyst
)

select
    expnum,
    ccdname,
    count(*) as n_inspectors,
    count_if(is_bad) as n_bad,
    coalesce(
        list(reason || ' (' || analyst || ')' order by analyst)
            filter (where is_bad and trim(reason) <> ''),
        []
    ) as reasons
from last_look
group by expnum, ccdname
order by expnum, ccdname nulls first
