-- A spool as version 0.1.0 wrote it before it knew of incidents (schema version 1).
PRAGMA application_id = 1395938128;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE content (
        mail INTEGER PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT;
INSERT INTO "content" VALUES(117657552708114524,X'5375626A6563743A204469736B2066756C6C206F6E20646230310A0A2F76617220697320617420393920250A');
INSERT INTO "content" VALUES(117657552720212780,X'5375626A6563743A205B4641494C45445D206261636B75700A582D53342D45787465726E616C49443A206261636B75702D370A0A6E6F207370616365206C6566740A');
INSERT INTO "content" VALUES(117657552728852520,X'5375626A6563743A204C6F67776174636820666F72206462303120284C696E7578290A46726F6D3A206C6F67776174636840646230310A0A2023232323232323232323232323232323232323204C6F67776174636820372E352E36202830372F32322F323129202323232323232323232323232323232323232323200A');
CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        mail INTEGER NOT NULL,
        team TEXT,
        state TEXT NOT NULL CHECK (state IN ('queued', 'failed', 'delivered', 'dropped')),
        attempts INTEGER NOT NULL,
        queued_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        settled_at INTEGER,
        reason TEXT,
        event_id TEXT,
        external_id TEXT,
        severity TEXT,
        status TEXT,
        title TEXT NOT NULL,
        payload TEXT
    ) STRICT;
INSERT INTO "event" VALUES(1024,117657552708114524,'default','delivered',1,1795311778547,1795311778547,1795311778797,NULL,'2518_a','subject:d71e6a0c5f0f05e3',NULL,'new','Disk full on db01','{"Title":"Disk full on db01","Message":"/var is at 99 %","X-S4-ExternalID":"subject:d71e6a0c5f0f05e3","X-S4-Status":"new"}');
INSERT INTO "event" VALUES(2048,117657552720212780,'default','failed',1,1795311778680,1795311778680,1795311778930,'400 Bad Request',NULL,'backup-7',NULL,'new','[FAILED] backup','{"Title":"[FAILED] backup","Message":"no space left","X-S4-ExternalID":"backup-7","X-S4-Status":"new"}');
INSERT INTO "event" VALUES(3072,117657552728852520,NULL,'dropped',0,1795311778876,1795311778876,1795311778876,'Logwatch: a report pages nobody',NULL,NULL,NULL,NULL,'',NULL);
INSERT INTO "event" VALUES(4096,117657552742936748,'default','queued',0,1795311779046,1795311779046,NULL,NULL,NULL,'INC-4711',NULL,'new','Phishing','{"Title":"Phishing","Message":"See 4711","X-S4-ExternalID":"INC-4711","X-S4-SourceSystem":"smtp2signl4","X-S4-Status":"new"}');
INSERT INTO "event" VALUES(5120,117657552753305737,'default','queued',0,1795311779197,1795311779197,NULL,NULL,NULL,'INC-4711',NULL,'resolved','','{"X-S4-ExternalID":"INC-4711","X-S4-SourceSystem":"smtp2signl4","X-S4-Status":"resolved"}');
CREATE TABLE large (
        mail INTEGER PRIMARY KEY,
        size INTEGER NOT NULL,
        file TEXT NOT NULL
    ) STRICT;
CREATE TABLE mail (
        id INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        end_seq INTEGER NOT NULL,
        size INTEGER NOT NULL,
        envelope TEXT NOT NULL,
        story TEXT NOT NULL
    ) STRICT;
INSERT INTO "mail" VALUES(117657552708114524,1795311778383,1024,2048,44,'{"received-at":"2026-11-22T01:42:58.38370881Z","origin":"submit","client":{},"reverse-path":"tool@example.org","recipients":["soc@example.org"]}','{"defects":["no From","no Date","no Message-ID"],"teams":[{"rules":[],"notes":["title: the subject","message: the text","external-id: the sender and the normalised subject"]}]}');
INSERT INTO "mail" VALUES(117657552720212780,1795311778567,2048,3072,66,'{"received-at":"2026-11-22T01:42:58.567826096Z","origin":"submit","client":{},"reverse-path":"tool@example.org","recipients":["soc@example.org"]}','{"defects":["no From","no Date","no Message-ID"],"teams":[{"rules":["SIGNL4: parameters in the header"],"notes":["title: the subject","message: the text"]}]}');
INSERT INTO "mail" VALUES(117657552728852520,1795311778699,3072,4096,125,'{"received-at":"2026-11-22T01:42:58.699715716Z","origin":"submit","client":{},"reverse-path":"tool@example.org","recipients":["soc@example.org"]}','{"defects":["no Date","no Message-ID"],"teams":[{"rules":[],"notes":["title: the subject","message: the text","external-id: the sender and the normalised subject"]}]}');
INSERT INTO "mail" VALUES(117657552742936748,1795311778914,4096,5120,0,'{"received-at":"2026-11-22T01:42:58.914785078Z","origin":"command","client":{},"reverse-path":"","recipients":[]}','null');
INSERT INTO "mail" VALUES(117657552753305737,1795311779072,5120,6144,0,'{"received-at":"2026-11-22T01:42:59.072510542Z","origin":"command","client":{},"reverse-path":"","recipients":[]}','null');
CREATE INDEX event_queued ON event (team, seq) WHERE state = 'queued';
CREATE INDEX event_failed ON event (team, seq) WHERE state = 'failed';
CREATE INDEX event_dropped ON event (team, seq) WHERE state = 'dropped';
COMMIT;
