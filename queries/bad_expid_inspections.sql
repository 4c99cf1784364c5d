-- The verdicts of a round of inspection, an exposure or CCD a row: how many looked, how many call it
-- bad and how many good, the classes of those who call it bad, and what they say.
with

last_look as (
    -- A later line of the same inspector replaces an earlier one.
    select
        expnum,
        ccdname,
        coalesce(inspector, analyst) as who,
        arg_max(is_bad is true, (file, line)) as is_bad,
        arg_max(is_bad is false, (file, line)) as is_good,
        arg_max(classes, (file, line)) as classes,
        arg_max(coalesce(comment, reason), (file, line)) as words
    from reports
    where source = 'inspection' and round = $round and camera = $camera and is_current
    group by expnum, ccdname, who
)

select
    expnum,
    ccdname,
    count(*) as n_inspectors,
    count_if(is_bad) as n_bad,
    count_if(is_good) as n_good,
    coalesce(list_sort(list_distinct(flatten(list(classes) filter (where is_bad)))), [])
        as classes,
    coalesce(
        list(who || if(trim(words) = '', '', ': ' || trim(words)) order by who)
            filter (where is_bad),
        []
    ) as details
from last_look
group by expnum, ccdname
order by expnum, ccdname nulls first
