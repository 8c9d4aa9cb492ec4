-- Which history of this database is the current one. A standby that is promoted and a copy that is restored begin another
-- timeline; whoever remembers the one before may remember commits that are gone. Where a server does not tell, 0.
CREATE FUNCTION annal_timeline() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
EXCEPTION WHEN OTHERS THEN
    RETURN 0;
END
$$;

-- The same with the cluster's own name, for a copy that was loaded into another cluster.
CREATE FUNCTION annal_epoch() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system()) || '/' || annal_timeline();
EXCEPTION WHEN OTHERS THEN
    RETURN annal_timeline()::text;
END
$$;
