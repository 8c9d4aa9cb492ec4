-- Events by hour and action, in blocks of 50 000 seqs, made when somebody asks for an aggregate. A block is right as long as
-- as many of its events are tombstones as when it was counted; else it is counted again.
CREATE TABLE rollup_blocks (
    project_id text COLLATE "C" NOT NULL,
    first_seq  bigint NOT NULL,
    tombstones bigint NOT NULL,
    PRIMARY KEY (project_id, first_seq)
);

CREATE TABLE rollup_hourly (
    project_id text COLLATE "C" NOT NULL,
    first_seq  bigint NOT NULL,
    hour       bigint NOT NULL,             -- since 1970
    action     text COLLATE "C" NOT NULL,
    count      bigint NOT NULL,
    PRIMARY KEY (project_id, first_seq, hour, action)
);
