-- What sorts versions as people do: the same text as `lake.versions.natural`. It is slow: ask it of
-- distinct versions, and of releases their place, `release_order`.
create macro natural_order(version) as
    regexp_replace(
        regexp_replace(version, '([0-9]+)', repeat('0', 19) || '\1', 'g'),
        '[0-9]*([0-9]{20})', '\1', 'g'
    ) || ' ' || version
