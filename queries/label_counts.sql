-- CCD images of each class by who calls them bad, in the form of the paper's Table 4.
with

wanted_ccds as (

    select release, camera, night, expnum, ccdnum
    from ccds
    where ($release::varchar is null or release = $release)
        and ($max_ebv::double is null or ebv < $max_ebv)
        and ($product::varchar is null or contains(image_filename, $product))

),

opinions as (

    select
        labels.release,
        labels.camera,
        labels.expnum,
        labels.ccdnum,
        labels.class,
        bool_or(list_contains($first::varchar[], labels.source)) as by_first,
        bool_or(list_contains($second::varchar[], labels.source)) as by_second
    from labels
    inner join wanted_ccds using (release, camera, night, expnum, ccdnum)
    where labels.class is not null and labels.origin is null
    group by all

)

select
    opinions.release,
    opinions.class,
    count(*) filter (where by_first and not by_second) as first_only,
    count(*) filter (where by_second and not by_first) as second_only,
    count(*) filter (where by_first and by_second) as in_both,
    count(*) filter (where by_first or by_second) as total
from opinions
left join classes on classes.name = opinions.class
group by opinions.release, opinions.class, classes.number
having total > 0
order by release_order(opinions.release), classes.number, opinions.class
