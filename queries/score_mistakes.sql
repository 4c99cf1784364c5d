-- The mistakes that a model is most sure of, some of each class: wrong, or wrongly labelled.
with

wrong as (

    select
        release,
        camera,
        night,
        expnum,
        ccdnum,
        class,
        predicted,
        probability,
        probabilities[class_index] as own_probability
    from scored_ccds
    where model = $model and is_own and predicted <> class

),

-- One of each exposure first: its CCDs go wrong alike.
of_exposures as (

    select
        *,
        row_number() over (
            partition by camera, expnum, class
            order by probability desc, ccdnum
        ) as place_in_exposure
    from wrong

),

placed as (

    select
        *,
        row_number() over (
            partition by class
            order by place_in_exposure, probability desc, camera, expnum, ccdnum
        ) as place
    from of_exposures
    qualify place <= $per_class::integer

),

words as (

    select
        release,
        camera,
        night,
        expnum,
        ccdnum,
        string_agg(distinct source, ', ' order by source) as sources,
        string_agg(distinct reason, '; ' order by reason) as reasons
    from labels
    semi join placed using (release, camera, night, expnum, ccdnum)
    group by all

)

select
    placed.class,
    placed.place,
    placed.release,
    placed.camera,
    placed.night,
    placed.expnum,
    placed.ccdnum,
    ccds.ccdname,
    placed.predicted,
    placed.probability,
    placed.own_probability,
    words.sources,
    words.reasons,
    ccds.image_filename,
    ccds.image_hdu
from placed
left join ccds using (release, camera, night, expnum, ccdnum)
left join words using (release, camera, night, expnum, ccdnum)
left join classes on classes.name = placed.class
order by classes.number, placed.class, placed.place
