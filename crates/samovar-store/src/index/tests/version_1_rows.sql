-- What the first version left in its tables: two commits of one model, the later one pinned and used.
INSERT INTO blob VALUES
    (x'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 3, 0, 1750000000000, 1, 2, 3, 0, 1750000000000);
-- The keys are the digests of (hub, org/name, c1) and (hub, org/name, c2), Q4_K_M, text; the test puts them in the place of @one and @two.
INSERT INTO artifact VALUES
    (1, @one, 'hub', 'org/name', 'c1', 'Q4_K_M', 'text', 1, zeroblob(32), 'hf://org/name:Q4_K_M', 0, 1750000000100),
    (2, @two, 'hub', 'org/name', 'c2', 'Q4_K_M', 'text', 1, zeroblob(32), 'hf://org/name:Q4_K_M', 1, 1750000000200);
INSERT INTO artifact_file VALUES
    (1, 0, 'old.gguf', x'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 0),
    (2, 0, 'new.gguf', x'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 0);
INSERT INTO ref VALUES ('hub', 'org/name', 'main', 'c2', 1750000000200);
INSERT INTO usage VALUES (2, 5, 1, 1750000000300, 0.5, 2, 120.0, 7, 9, 1000000.0);
INSERT INTO counters VALUES ('fetched_bytes', 42);
