-- What the lists say of some CCDs: `asked` holds camera, expnum, ccdnum, a class, and its row.
with

said as (

    select
        asked.camera,
        asked.expnum,
        asked.ccdnum,
        list(distinct labels.class order by labels.class) as classes,
        string_agg(distinct labels.source, ',' order by labels.source)
            filter (where labels.class = asked.class) as sources,
        string_agg(distinct labels.reason, '; ' order by labels.reason)
            filter (where labels.class = asked.class) as reasons
    from asked
    inner join labels using (camera, expnum, ccdnum)
    where labels.release = $release
        and labels.class is not null
        and labels.origin is null
        and (len($sources::varchar[]) = 0 or list_contains($sources, labels.source))
    group by asked.camera, asked.expnum, asked.ccdnum

),

-- Lists that name an exposure as a whole, not CCD by CCD.
whole as (

    select distinct camera, expnum, unnest(classes) as class
    from reports
    where ccdname is null
        and is_current
        and origin is null
        and (len($sources::varchar[]) = 0 or list_contains($sources, source))

)

select
    asked.expnum,
    asked.ccdnum,
    coalesce(said.classes, []) as classes,
    said.sources,
    said.reasons,
    -- Good is what no list names: always the whole exposure.
    asked.class = 'good' or whole.expnum is not null as is_whole
from asked
left join said using (camera, expnum, ccdnum)
left join whole on whole.camera = asked.camera
    and whole.expnum = asked.expnum
    and whole.class = asked.class
order by asked.row
