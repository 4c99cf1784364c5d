-- Which CCDs a look at the structure of the embeddings takes: labelled ones of every class alike,
-- and CCDs that no list names. `labelled` holds the training sample's CCDs with their class.
-- Draws depend on the seed and the CCD's numbers alone.
with

embedded as (

    select
        camera,
        night,
        expnum,
        ccdnum,
        md5_number(
            $seed::bigint::varchar || '/' || camera || expnum || '-' || ccdnum
        ) as draw
    from embeddings
    where embedder = $embedder and ccdnum > 0

),

known as (

    select
        embedded.*,
        labelled.class,
        row_number() over (partition by labelled.class order by embedded.draw) as place
    from embedded
    inner join labelled using (camera, night, expnum, ccdnum)

),

unknown as (

    select embedded.*
    from embedded
    anti join (from labels where origin is null) as labels using (camera, night, expnum, ccdnum)
    anti join known using (camera, night, expnum, ccdnum)

),

-- Half of the sample, and more where there are not enough others.
quota as (

    select greatest($n::bigint // 2, $n::bigint - count(*)) as n_labelled
    from unknown

),

-- One of each class, then the second of each: rare classes are whole before common ones grow.
taken as (

    select camera, night, expnum, ccdnum, class
    from known
    order by place, class
    limit (select n_labelled from quota)

),

filled as (

    select camera, night, expnum, ccdnum, null::varchar as class
    from unknown
    order by draw
    limit (select $n::bigint - count(*) from taken)

)

select camera, night, expnum, ccdnum, class, (select count(*) from known) as n_known
from (select * from taken union all select * from filled)
order by camera, night, expnum, ccdnum
