/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/contract.h"

#include <errno.h>

#include "conf/outcome.h"
#include "tests/unit.h"

/* What a row needs beside the parameter it is about, and how that reads back. */
#define CP " SyncType=Clone SourceGroup=prod"
#define CA " SyncType=Clone SourceElement=a"
#define CM " SyncType=Clone SourceGroup=mixed"
#define CPR "SyncType=Clone|SourceGroup=prod"
#define CAR "SyncType=Clone|SourceElement=a"
#define INI "SyncType=Clone\nSourceGroup=prod\n"

#define N32 "aaaaaaaaaabbbbbbbbbbcccccccccc.-"
#define N40 N32 "_1234567"

#define DONE(text, read_back)                           \
	{                                               \
		text, CIM_RETURN_OK, 0, read_back, NULL \
	}
#define JOB(text, read_back)                                     \
	{                                                        \
		text, CIM_RETURN_JOB_STARTED, 0, read_back, NULL \
	}
#define BAD(text, words)                                                \
	{                                                               \
		text, CIM_RETURN_INVALID_PARAMETER, EINVAL, words, NULL \
	}
#define NONE(text, words)                                               \
	{                                                               \
		text, CIM_RETURN_INVALID_PARAMETER, ENOENT, words, NULL \
	}
#define LONG(text, words)                                                     \
	{                                                                     \
		text, CIM_RETURN_INVALID_PARAMETER, ENAMETOOLONG, words, NULL \
	}
#define NOT(text, words)                                                \
	{                                                               \
		text, CIM_RETURN_NOT_SUPPORTED, EOPNOTSUPP, words, NULL \
	}
#define USED(text, words)                                   \
	{                                                   \
		text, CIM_RETURN_IN_USE, EBUSY, words, NULL \
	}

/* ---- values ------------------------------------------------------------------------ */

static const struct contract_row sync_types[] = {
	NOT("SyncType=Mirror SourceGroup=prod", "SyncType: Mirror is not supported"),
	NOT("SyncType=6 SourceGroup=prod", "SyncType: Mirror is not supported"),
	DONE("SyncType=Snapshot SourceGroup=prod", "SyncType=Snapshot|SourceGroup=prod"),
	DONE("SyncType=7 SourceGroup=prod", "SyncType=Snapshot|SourceGroup=prod"),
	JOB("SyncType=Clone SourceGroup=prod", CPR),
	JOB("SyncType=8 SourceGroup=prod", CPR),
	JOB("SyncType=CLONE SourceGroup=prod", CPR),
	JOB("SyncType=\"c l-o_ne\" SourceGroup=prod", CPR),
	JOB("SyncType=008 SourceGroup=prod", CPR),
	NOT("SyncType=TokenizedClone SourceGroup=prod", "TokenizedClone"),
	NOT("SyncType=9 SourceGroup=prod", "TokenizedClone is not supported"),
	BAD("SyncType=0 SourceGroup=prod", "SyncType: \"0\" is not one of its values"),
	BAD("SyncType=5 SourceGroup=prod", "valid: Mirror, Snapshot, Clone"),
	BAD("SyncType=10 SourceGroup=prod", "SyncType: \"10\""),
	BAD("SyncType=32767 SourceGroup=prod", "SyncType: \"32767\""),
	NOT("SyncType=32768 SourceGroup=prod", "SyncType: 32768 is a vendor's value"),
	NOT("SyncType=65535 SourceGroup=prod", "SyncType: 65535 is a vendor's value"),
	BAD("SyncType=65536 SourceGroup=prod", "SyncType: \"65536\""),
	BAD("SyncType=-8 SourceGroup=prod", "SyncType: \"-8\""),
	BAD("SyncType=8.0 SourceGroup=prod", "SyncType: \"8.0\""),
	BAD("SyncType=0x8 SourceGroup=prod", "SyncType: \"0x8\""),
	BAD("SyncType=Klone SourceGroup=prod", "did you mean \"Clone\"?"),
	BAD("Mode=3 SourceGroup=prod", "SyncType is missing; add SyncType=Clone"),
};

static const struct contract_row modes[] = {
	JOB("Mode=Synchronous" CP, "SyncType=Clone|Mode=Synchronous|SourceGroup=prod"),
	JOB("Mode=2" CP, "SyncType=Clone|Mode=Synchronous|SourceGroup=prod"),
	JOB("Mode=Asynchronous" CP, "SyncType=Clone|Mode=Asynchronous|SourceGroup=prod"),
	JOB("Mode=3" CP, "SyncType=Clone|Mode=Asynchronous|SourceGroup=prod"),
	DONE("Mode=2 SyncType=7 SourceElement=b",
	     "SyncType=Snapshot|Mode=Synchronous|SourceElement=b"),
	DONE("Mode=3 SyncType=7 SourceElement=b",
	     "SyncType=Snapshot|Mode=Asynchronous|SourceElement=b"),
	NOT("Mode=Adaptive" CP, "Mode: Adaptive is not supported"),
	NOT("Mode=4" CP, "Mode: Adaptive is not supported"),
	BAD("Mode=0" CP, "Mode: \"0\" is not one of its values"),
	BAD("Mode=1" CP, "Mode: \"1\""),
	BAD("Mode=5" CP, "Mode: \"5\""),
	BAD("Mode=Active" CP, "Mode: \"Active\""),
	BAD("Mode=Unknown" CP, "Mode: \"Unknown\""),
	BAD("Mode=32767" CP, "Mode: \"32767\""),
	NOT("Mode=32768" CP, "Mode: 32768 is a vendor's value"),
	NOT("Mode=65535" CP, "Mode: 65535 is a vendor's value"),
	BAD("Mode=65536" CP, "Mode: \"65536\""),
	BAD("Mode=sync" CP, "did you mean"),
};

static const struct contract_row consistencies[] = {
	JOB("Consistency=\"No Consistency\"" CP, CPR "|Consistency=No Consistency"),
	JOB("Consistency=2" CP, CPR "|Consistency=No Consistency"),
	JOB("Consistency=noconsistency" CP, CPR "|Consistency=No Consistency"),
	JOB("Consistency=\"Sequential Consistency\"" CP,
	    CPR "|Consistency=Sequential Consistency"),
	JOB("Consistency=3" CP, CPR "|Consistency=Sequential Consistency"),
	JOB("Consistency=2" CM, "SyncType=Clone|SourceGroup=mixed|Consistency="
				"No Consistency"),
	NOT("Consistency=3" CM, "Consistency: Sequential Consistency is not to be had "
				"with shared_method = none, as member \"s\" is shared"),
	BAD("Consistency=0" CP, "Consistency: \"0\" is not one of its values"),
	BAD("Consistency=1" CP, "valid: No Consistency, Sequential Consistency"),
	BAD("Consistency=4" CP, "Consistency: \"4\""),
	BAD("Consistency=32767" CP, "Consistency: \"32767\""),
	NOT("Consistency=32768" CP, "Consistency: 32768 is a vendor's value"),
	NOT("Consistency=65535" CP, "Consistency: 65535 is a vendor's value"),
	BAD("Consistency=65536" CP, "Consistency: \"65536\""),
	BAD("Consistency=Sequential" CP, "did you mean \"Sequential Consistency\"?"),
};

#define WAIT(state) "WaitForCopyState=" state
static const struct contract_row wait_states[] = {
	DONE(WAIT("Initialized") CP, CPR "|WaitForCopyState=Initialized"),
	DONE(WAIT("2") CP, CPR "|WaitForCopyState=Initialized"),
	JOB(WAIT("Unsynchronized") CP, CPR "|WaitForCopyState=Unsynchronized"),
	JOB(WAIT("3") CP, CPR "|WaitForCopyState=Unsynchronized"),
	JOB(WAIT("UnSynchronized") CP, CPR "|WaitForCopyState=Unsynchronized"),
	DONE(WAIT("Synchronized") CP, CPR "|WaitForCopyState=Synchronized"),
	DONE(WAIT("4") CP, CPR "|WaitForCopyState=Synchronized"),
	DONE(WAIT("Inactive") CP, CPR "|WaitForCopyState=Inactive"),
	DONE(WAIT("8") CP, CPR "|WaitForCopyState=Inactive"),
	DONE(WAIT("Prepared") CP, CPR "|WaitForCopyState=Prepared"),
	DONE(WAIT("11") CP, CPR "|WaitForCopyState=Prepared"),
	DONE(WAIT("4") " SyncType=7 SourceElement=b",
	     "SyncType=Snapshot|SourceElement=b|WaitForCopyState=Synchronized"),
	DONE(WAIT("3") " SyncType=7 SourceElement=b",
	     "SyncType=Snapshot|SourceElement=b|WaitForCopyState=Unsynchronized"),
	DONE(WAIT("2") " SyncType=7 SourceElement=b",
	     "SyncType=Snapshot|SourceElement=b|WaitForCopyState=Initialized"),
	BAD(WAIT("Broken") CP, "WaitForCopyState: \"Broken\" is not one of its values"),
	BAD(WAIT("5") CP, "valid: Initialized, Unsynchronized, Synchronized, Inactive"),
	BAD(WAIT("Fractured") CP, "\"Fractured\""),
	BAD(WAIT("6") CP, "\"6\""),
	BAD(WAIT("Split") CP, "\"Split\""),
	BAD(WAIT("7") CP, "\"7\""),
	BAD(WAIT("Suspended") CP, "\"Suspended\""),
	BAD(WAIT("9") CP, "\"9\""),
	BAD(WAIT("Failedover") CP, "\"Failedover\""),
	BAD(WAIT("10") CP, "\"10\""),
	BAD(WAIT("Aborted") CP, "\"Aborted\""),
	BAD(WAIT("12") CP, "\"12\""),
	BAD(WAIT("Skewed") CP, "\"Skewed\""),
	BAD(WAIT("13") CP, "\"13\""),
	BAD(WAIT("Mixed") CP, "\"Mixed\""),
	BAD(WAIT("14") CP, "\"14\""),
	BAD(WAIT("\"Not Applicable\"") CP, "\"Not Applicable\""),
	BAD(WAIT("15") CP, "\"15\""),
	BAD(WAIT("Partitioned") CP, "\"Partitioned\""),
	BAD(WAIT("16") CP, "\"16\""),
	BAD(WAIT("Invalid") CP, "\"Invalid\""),
	BAD(WAIT("17") CP, "\"17\""),
	BAD(WAIT("Restored") CP, "\"Restored\""),
	BAD(WAIT("18") CP, "\"18\""),
	BAD(WAIT("0") CP, "\"0\""),
	BAD(WAIT("1") CP, "\"1\""),
	BAD(WAIT("19") CP, "\"19\""),
	BAD(WAIT("32767") CP, "\"32767\""),
	NOT(WAIT("32768") CP, "WaitForCopyState: 32768 is a vendor's value"),
	NOT(WAIT("65535") CP, "WaitForCopyState: 65535 is a vendor's value"),
	BAD(WAIT("65536") CP, "\"65536\""),
	BAD(WAIT("Synchronised") CP, "did you mean \"Synchronized\"?"),
};

/* ---- names ------------------------------------------------------------------------- */

static const struct contract_row names[] = {
	JOB("RelationshipName=r" CP, "RelationshipName=r|" CPR),
	JOB("RelationshipName=1" CP, "RelationshipName=1|" CPR),
	JOB("RelationshipName=" N32 CP, "RelationshipName=" N32 "|" CPR),
	JOB("RelationshipName=LIVE" CP, "RelationshipName=LIVE|" CPR),
	JOB("RelationshipName=g" CP, CPR),
	LONG("RelationshipName=" N32 "d" CP, "has 33 bytes; 32 is the limit"),
	BAD("RelationshipName=.a" CP, "RelationshipName: \".a\" is no name"),
	BAD("RelationshipName=-a" CP, "RelationshipName: \"-a\" is no name"),
	BAD("RelationshipName=a/b" CP, "RelationshipName: \"a/b\""),
	BAD("RelationshipName=\"a b\"" CP, "RelationshipName: \"a b\""),
	BAD("RelationshipName=\xc3\xa4" CP, "RelationshipName: \"\\xc3\\xa4\""),
	USED("RelationshipName=live" CP, "group \"live\" has a relationship \"live\""),
	USED("RelationshipName=taken" CP, "\"taken_1\""),

	NONE("SyncType=Clone SourceGroup=prud",
	     "SourceGroup: there is no group \"prud\""),
	NONE("SyncType=Clone SourceGroup=Prod",
	     "SourceGroup: there is no group \"Prod\"; did you mean \"prod\"? groups: "),
	NONE("SyncType=Clone SourceGroup=a", "SourceGroup: there is no group \"a\""),
	NONE("SyncType=Clone SourceGroup=" N32, "SourceGroup: there is no group"),
	LONG("SyncType=Clone SourceGroup=" N32 "d", "SourceGroup:"),
	BAD("SyncType=Clone SourceGroup=a/b", "SourceGroup: \"a/b\" is no name"),
	BAD("SyncType=Clone SourceGroup=.", "SourceGroup: \".\" is no name"),
	BAD("SyncType=Clone SourceGroup=empty", "group \"empty\" is empty"),
	BAD("SyncType=Clone SourceGroup=g", "\"g\" cannot be its own replica"),

	JOB("SyncType=Clone SourceElement=a", CAR),
	NONE("SyncType=Clone SourceElement=z",
	     "SourceElement: there is no element \"z\""),
	NONE("SyncType=Clone SourceElement=Taken_1",
	     "did you mean \"taken_1\"? elements: "),
	NONE("SyncType=Clone SourceElement=prod", "there is no element \"prod\""),
	NONE("SyncType=Clone SourceElement=" N40, "SourceElement: there is no element"),
	LONG("SyncType=Clone SourceElement=" N40 "8", "has 41 bytes; 40 is the limit"),
	BAD("SyncType=Clone SourceElement=-a", "SourceElement: \"-a\" is no name"),
	BAD("SyncType=Clone SourceElement=iqn.2026-01.a:b/1",
	    "a target and a LUN need SourceAccessPoint"),
	USED("SyncType=Clone SourceElement=live_1",
	     "SourceElement: \"live_1\" is a target of relationship \"live\""),
	USED("SyncType=Clone SourceGroup=image",
	     "SourceGroup: member \"live_1\" is a target of relationship \"live\""),
	USED("SyncType=Snapshot SourceGroup=live", "SourceGroup: member \"live_1\" is a"),

	JOB("TargetGroup=g" CP, CPR "|TargetGroup=g"),
	JOB("TargetGroup=empty" CP, CPR "|TargetGroup=empty"),
	JOB("TargetGroup=luns" CP, CPR "|TargetGroup=luns"),
	JOB("TargetGroup=ones" CA, CAR "|TargetGroup=ones"),
	NONE("TargetGroup=z" CP, "TargetGroup: there is no group \"z\""),
	NONE("TargetGroup=" N32 CP, "TargetGroup: there is no group"),
	LONG("TargetGroup=" N32 "d" CP, "TargetGroup:"),
	BAD("TargetGroup=a/b" CP, "TargetGroup: \"a/b\" is no name"),
	BAD("TargetGroup=prod" CP, "TargetGroup=prod is the source group itself"),
	BAD("TargetGroup=luns" CA, "has 2 members and the source has 1"),
	BAD("TargetGroup=ones" CP, "has 1 member and the source has 2"),
	BAD("TargetGroup=smalls" CA, "a target is at least as large as its source"),
	BAD("TargetGroup=shareds" CA, "member \"s\" is shared"),
	BAD("TargetGroup=mine SyncType=Clone SourceElement=t1",
	    "member \"t1\" is a source of the same call"),
	NOT("TargetGroup=image" CA, "member \"live_1\" is an image"),
	NOT("TargetGroup=ones SyncType=Snapshot SourceElement=a", "a Snapshot onto"),
	USED("TargetGroup=live" CA, "group \"live\" is in a relationship"),
	USED("TargetGroup=useds" CA, "is a source of relationship \"live\""),
	{ "SyncType=Clone SourceElement=a", 5, EINVAL, "write TargetGroup=mine", "mine" },
	{ "SyncType=Clone SourceElement=a TargetGroup=mine", 4096, 0,
	  "RelationshipName=mine|" CAR "|TargetGroup=mine", "mine" },
	{ "SyncType=Clone SourceElement=a TargetGroup=empty", 4096, 0,
	  "RelationshipName=mine|" CAR "|TargetGroup=empty", "mine" },
	{ "SyncType=Clone SourceElement=a", 6, EBUSY, "has a relationship already",
	  "live" },

	JOB("TargetPool=p" CP, CPR "|TargetPool=p"),
	NONE("TargetPool=z" CP, "TargetPool: there is no pool \"z\"; pools: p"),
	NONE("TargetPool=" N32 CP, "TargetPool: there is no pool"),
	LONG("TargetPool=" N32 "d" CP, "TargetPool:"),
	BAD("TargetPool=a/b" CP, "TargetPool: \"a/b\" is no name"),
};

/* ---- exclusions, both ways ------------------------------------------------------------ */

static const struct contract_row exclusions[] = {
	BAD("SourceGroup=prod SourceElement=a SyncType=Clone", "exclude each other"),
	BAD("SourceElement=a SourceGroup=prod SyncType=Clone", "exclude each other"),
	BAD("SyncType=Clone Mode=3", "SourceGroup and SourceElement are both missing"),
	BAD("TargetGroup=empty TargetElementCount=1" CA, "excludes TargetGroup"),
	BAD("TargetElementCount=1 TargetGroup=empty" CA, "excludes TargetGroup"),
	BAD("TargetGroup=ones TargetElementCount=1" CA, "excludes TargetGroup"),
	BAD("TargetElementCount=1" CP, "excludes SourceGroup"),
	BAD("SourceGroup=prod SyncType=Clone TargetElementCount=1",
	    "excludes SourceGroup"),
	BAD("TargetGroup=luns TargetPool=p" CP, "TargetPool=p excludes TargetGroup=luns"),
	BAD("TargetPool=p TargetGroup=luns" CP, "TargetPool=p excludes TargetGroup=luns"),
	JOB("TargetGroup=empty TargetPool=p" CP, CPR "|TargetGroup=empty|TargetPool=p"),
	/* A code 5 is told before what is not supported. */
	BAD("SyncType=Mirror SourceGroup=prod SourceElement=a", "exclude each other"),
	BAD("SyncType=9 SourceGroup=a/b", "SourceGroup"),
	BAD("SyncType=Clone SourceGroup=prod Mode=4 Consistency=9", "Consistency"),
	/* Both before what is wrong with what it names. */
	NOT("SyncType=Mirror SourceGroup=missing", "Mirror is not supported"),
	NOT("SyncType=Clone SourceGroup=prod TargetPool=missing Mode=4", "Adaptive"),
};

/* ---- the text ------------------------------------------------------------------------- */

static const struct contract_row texts[] = {
	BAD("SyncType=Clone\n", "one parameter; one write is one call"),
	BAD("\n", "without parameters"),
	BAD(INI, "last line of the text is not [Run]"),
	BAD(INI "[Run]\n\n", "last line of the text is not [Run]"),
	BAD(INI "[Run]\nMode=3\n[Run]\n", "line 4: text after [Run]"),
	BAD("SyncType=Clone prod\n", "no = in it"),
	BAD("SyncType = Clone\n", "a blank before the ="),
	BAD("=Clone SourceGroup=prod\n", "no parameter before the ="),
	BAD("SyncType=Clone SourceGroup=\"prod\n", "no closing double quote"),
	BAD("SyncType=Clone SourceGroup=pr\"od\"\n", "double quote within a value"),
	BAD("SyncType=\"Clone\"SourceGroup=prod\n", "text after the closing"),
	BAD(INI "SourceGroup=\"prod\"\n[Run]\n", "SourceGroup is given twice"),
	BAD("SyncType=Clone\nSourceGroup=\"prod\"\n[Run]\n", "quotes have no meaning"),
	BAD("SyncType=Clone\r\nSourceGroup=prod\r\n[Run]\r\n", "carriage return"),
	BAD("SyncType=Clone SourceGroup=prod\r\n", "carriage return"),
	BAD("SyncType=Clone SourceGroup=prod\x01\n", "control character (0x01)"),
	BAD("SyncType=Clone\n SourceGroup=prod\n[Run]\n", "begins with a blank"),
	BAD(INI "[Goal]\n[Run]\n", "unknown section \"Goal\""),
	BAD(INI "[ReplicationSettingData]\nmax_bytes_per_second=1\n[Run]\n",
	    "it is a key of a [setting] in lunfs.conf"),
	BAD(INI "[ReplicationSettingData]\n[ReplicationSettingData]\n[Run]\n",
	    "[ReplicationSettingData] is given twice"),
	BAD("SourceGruop=prod SyncType=Clone", "did you mean \"SourceGroup\"?"),
	BAD("syncType=Clone SourceGroup=prod", "did you mean \"SyncType\"?"),
	BAD("ConnectivityCollection=x" CP,
	    "unknown parameter \"ConnectivityCollection\""),
	BAD("Pairing=3" CP, "give it in the section [ReplicationSettingData]"),
	BAD("Job=1" CP, "Job is an output"),
	BAD("Synchronization=x" CP, "Synchronization is an output"),
	JOB("# c\n\n; d\nSyncType = clone\nSourceGroup =prod\n[Run]\n", CPR),
	JOB(INI "[ReplicationSettingData]\n[TargetSettingGoal]\n[Run]\n", CPR),
	JOB("\tSyncType=Clone \t SourceGroup=prod \n", CPR),
};

/* ---- TargetElementCount ------------------------------------------------------------------ */

static const struct contract_row counts[] = {
	JOB("TargetElementCount=1" CA, CAR "|TargetElementCount=1"),
	JOB("TargetElementCount=2" CA, CAR "|TargetElementCount=2"),
	/* Of so many only the rows. */
	DONE("TargetElementCount=256 WaitForCopyState=8" CA,
	     CAR "|TargetElementCount=256|WaitForCopyState=Inactive"),
	DONE("TargetElementCount=3 SyncType=Snapshot SourceElement=a",
	     "SyncType=Snapshot|SourceElement=a|TargetElementCount=3"),
	NOT("TargetElementCount=257" CA, "write 1 to 256"),
	NOT("TargetElementCount=18446744073709551615" CA, "TargetElementCount: 1844674"),
	BAD("TargetElementCount=18446744073709551616" CA, "TargetElementCount:"),
	BAD("TargetElementCount=0" CA, "TargetElementCount: \"0\" is not a number of"),
	BAD("TargetElementCount=-1" CA, "TargetElementCount: \"-1\""),
	BAD("TargetElementCount=1.5" CA, "TargetElementCount: \"1.5\""),
	BAD("TargetElementCount=1K" CA, "TargetElementCount: \"1K\""),
	BAD("TargetElementCount=two" CA, "TargetElementCount: \"two\""),
};

/* ---- access points (test-access has those that are reached) ------------------------------ */

static const struct contract_row access_points[] = {
	BAD("SourceAccessPoint=ap" CA,
	    "SourceAccessPoint=ap: element \"a\" is reached without an access point"),
	BAD("SourceAccessPoint=ap SyncType=Clone SourceGroup=prod",
	    "SourceAccessPoint=ap: element \"a\" is reached without an access point"),
	NONE("SourceAccessPoint=no" CA,
	     "there is no [access_point no]; access points: ap"),
	NONE("SourceAccessPoint=no SyncType=Clone SourceElement=iqn.2026-01.a:b/1",
	     "there is no [access_point no]; access points: ap"),
	NONE("SourceAccessPoint=" N32 CA, "SourceAccessPoint: there is no"),
	LONG("SourceAccessPoint=" N32 "d" CA, "SourceAccessPoint:"),
	BAD("SourceAccessPoint=a/b" CA, "SourceAccessPoint: \"a/b\" is no name"),
	BAD("SourceAccessPoint=ap SyncType=Clone SourceElement=iqn.2026-01.a:b/x",
	    "is not <iqn>/<lun>"),
	BAD("SourceAccessPoint=ap SyncType=Clone SourceElement=disk/1",
	    "is not <iqn>/<lun>"),
	NOT("TargetAccessPoint=ap" CA, "LunFS makes no LUNs at a target"),
	NOT("TargetAccessPoint=ap TargetGroup=empty" CA,
	    "LunFS makes no LUNs at a target"),
	BAD("TargetAccessPoint=ap TargetGroup=mine" CA,
	    "TargetAccessPoint=ap: element \"t1\" is reached without an access point"),
	NONE("TargetAccessPoint=no" CA,
	     "there is no [access_point no]; access points: ap"),
	NONE("TargetAccessPoint=" N32 CA, "TargetAccessPoint: there is no"),
	LONG("TargetAccessPoint=" N32 "d" CA, "TargetAccessPoint:"),
	BAD("TargetAccessPoint=a/b" CA, "TargetAccessPoint: \"a/b\" is no name"),
};

/* ---- settings (contract_settings.c has the values of properties) --------------------- */

#define RSD "[ReplicationSettingData]\n"
#define GOAL "[TargetSettingGoal]\n"
#define RUN "[Run]\n"
#define THICK "ThinProvisioningPolicy=Copy thin source to full target"

static const struct contract_row settings[] = {
	/* The name of a [setting]. */
	JOB("ReplicationSettingData=plain" CP, CPR "|ReplicationSettingData=plain"),
	JOB("ReplicationSettingData=careful" CP, CPR "|ReplicationSettingData=careful"),
	JOB("ReplicationSettingData=slow" CP, CPR "|ReplicationSettingData=slow"),
	JOB("ReplicationSettingData=full" CP, CPR "|ReplicationSettingData=full"),
	JOB("ReplicationSettingData=vault" CP, CPR "|ReplicationSettingData=vault"),
	JOB("ReplicationSettingData=quiet" CM,
	    "SyncType=Clone|SourceGroup=mixed|ReplicationSettingData=quiet"),
	JOB("ReplicationSettingData=quiet Consistency=3" CM,
	    "SyncType=Clone|SourceGroup=mixed|Consistency=Sequential Consistency|"
	    "ReplicationSettingData=quiet"),
	JOB("ReplicationSettingData=going Consistency=2" CP,
	    CPR "|Consistency=No Consistency|ReplicationSettingData=going"),
	BAD("ReplicationSettingData=going" CP,
	    "OnGroupOrListError: Continue excludes Sequential Consistency"),
	NOT("ReplicationSettingData=quiet SyncType=Snapshot SourceGroup=mixed",
	    "there is no Snapshot of member \"s\""),
	NOT("SyncType=Snapshot SourceGroup=mixed",
	    "there is no Snapshot of member \"s\""),
	NOT("ReplicationSettingData=delta" CP,
	    "ReplicationSettingData=delta: DeltaUpdateBlocks=8: the property is not"),
	NOT("ReplicationSettingData=full SyncType=Snapshot SourceGroup=prod",
	    "ReplicationSettingData=full: DesiredCopyMethodology: Full Copy is not "
	    "supported for a Snapshot"),
	NOT("ReplicationSettingData=both" CP,
	    "ReplicationSettingData=both: ReadOnly: Both is not supported for a Clone"),
	NOT("ReplicationSettingData=scan" CM, "shared_method = double-scan"),
	NONE("ReplicationSettingData=z" CP, "there is no [setting z]; settings: "),
	NONE("ReplicationSettingData=Plain" CP, "there is no [setting Plain]"),
	NONE("ReplicationSettingData=" N32 CP, "there is no [setting aaaaaa"),
	LONG("ReplicationSettingData=" N32 "d" CP, "ReplicationSettingData:"),
	BAD("ReplicationSettingData=a/b" CP, "ReplicationSettingData: \"a/b\""),
	BAD("ReplicationSettingData=Pairing=3" CP, "ReplicationSettingData: \"Pairing="),

	JOB("TargetSettingGoal=vault" CP, CPR "|TargetSettingGoal=vault"),
	JOB("TargetSettingGoal=thin TargetGroup=empty" CP,
	    CPR "|TargetGroup=empty|TargetSettingGoal=thin"),
	JOB("TargetSettingGoal=plain" CP, CPR "|TargetSettingGoal=plain"),
	JOB("TargetSettingGoal=vault ReplicationSettingData=vault" CP,
	    CPR "|ReplicationSettingData=vault|TargetSettingGoal=vault"),
	DONE("TargetSettingGoal=vault SyncType=7 SourceElement=a",
	     "SyncType=Snapshot|SourceElement=a|TargetSettingGoal=vault"),
	BAD("TargetSettingGoal=vault ReplicationSettingData=thin" CP,
	    "ReplicationSettingData and TargetSettingGoal have different values"),
	BAD("TargetSettingGoal=careful" CP,
	    "TargetSettingGoal=careful: CopyRecoveryMode is not what a target is like"),
	BAD("TargetSettingGoal=slow" CP, "max_bytes_per_second is not what a target"),
	BAD("TargetSettingGoal=quiet" CP, "quiesce_command is not what a target is"),
	BAD("TargetSettingGoal=scan" CP, "shared_method is not what a target is like"),
	NOT("TargetSettingGoal=both" CP,
	    "TargetSettingGoal=both: ReadOnly: Both is not supported for a Clone"),
	NONE("TargetSettingGoal=z" CP,
	     "TargetSettingGoal: there is no [setting z]; settings: "),
	NONE("TargetSettingGoal=" N32 CP, "TargetSettingGoal: there is no"),
	LONG("TargetSettingGoal=" N32 "d" CP, "TargetSettingGoal:"),
	BAD("TargetSettingGoal=a/b" CP, "TargetSettingGoal: \"a/b\" is no name"),
	BAD("TargetSettingGoal=ReadOnly=3" CP, "TargetSettingGoal: \"ReadOnly="),

	/* Targets that are there are as they are. */
	BAD("TargetGroup=luns TargetSettingGoal=vault" CP,
	    "TargetSettingGoal excludes TargetGroup=luns"),
	BAD("TargetSettingGoal=plain TargetGroup=luns" CP,
	    "TargetSettingGoal excludes TargetGroup=luns"),
	BAD(INI "TargetGroup=luns\n" GOAL "ReadOnly=3\n" RUN,
	    "TargetSettingGoal excludes TargetGroup=luns"),
	BAD("SyncType=7\nSourceGroup=prod\nTargetGroup=luns\n" GOAL THICK "\n" RUN,
	    "TargetSettingGoal excludes TargetGroup=luns"),
	JOB(INI "TargetGroup=luns\n" GOAL RUN, CPR "|TargetGroup=luns"),
	JOB(INI "TargetGroup=empty\n" GOAL THICK "\n" RUN,
	    CPR "|TargetGroup=empty|[TargetSettingGoal]|" THICK),
	BAD(INI "TargetGroup=luns\n" RSD THICK "\n" RUN,
	    "ThinProvisioningPolicy speaks of targets that are made"),
	BAD(INI "TargetGroup=luns\n" RSD "ThinProvisioningPolicy=2\n" RUN,
	    "those of TargetGroup=luns are there already"),
	BAD(INI "TargetGroup=luns\n" RSD "TargetElementGoal=3\n" RUN,
	    "TargetElementGoal speaks of targets that are made"),
	JOB(INI "TargetGroup=luns\n" RSD "ThinProvisioningPolicy=7\nReadOnly=3\n" RUN,
	    CPR "|TargetGroup=luns|[ReplicationSettingData]|"
		"ThinProvisioningPolicy=Implementation decides provisioning of target|"
		"ReadOnly=SyncedElement"),

	/* Sections. */
	JOB(INI RSD "CopyPriority = 4\n# c\n\nOnGroupOrListError =3\n" RUN,
	    CPR "|[ReplicationSettingData]|OnGroupOrListError=Stop|CopyPriority=Urgent"),
	JOB(INI GOAL "ReadOnly=3\nThinProvisioningPolicy=3\n" RSD "CopyPriority=1\n" RUN,
	    CPR "|[ReplicationSettingData]|CopyPriority=Low|[TargetSettingGoal]|" THICK
		"|ReadOnly=SyncedElement"),
	JOB(INI RSD THICK "\n" GOAL "ThinProvisioningPolicy=3\n" RUN,
	    CPR "|[ReplicationSettingData]|" THICK "|[TargetSettingGoal]|" THICK),
	JOB(INI RSD RUN, CPR),
	JOB(INI GOAL RUN, CPR),
	JOB(INI GOAL RSD RUN, CPR),
	JOB(INI "ReplicationSettingData=careful\nTargetSettingGoal=thin\n" RSD GOAL RUN,
	    CPR "|ReplicationSettingData=careful|TargetSettingGoal=thin"),
	JOB(INI "ReplicationSettingData=careful\n" GOAL "ReadOnly=3\n" RUN,
	    CPR "|ReplicationSettingData=careful|[TargetSettingGoal]|"
		"ReadOnly=SyncedElement"),
	BAD(INI "ReplicationSettingData=plain\n" RSD "CopyPriority=1\n" RUN,
	    "ReplicationSettingData=plain and the section [ReplicationSettingData] "
	    "exclude each other"),
	BAD(INI "ReplicationSettingData=z\n" RSD "Pairing=3\n" RUN, "exclude each other"),
	BAD(INI "TargetSettingGoal=vault\n" GOAL "ReadOnly=3\n" RUN,
	    "TargetSettingGoal=vault and the section [TargetSettingGoal] exclude each"),
	BAD(INI RSD "ThinProvisioningPolicy=2\n" GOAL THICK "\n" RUN,
	    "ThinProvisioningPolicy: ReplicationSettingData and TargetSettingGoal have"),
	BAD(INI "ReplicationSettingData=thin\n" GOAL THICK "\n" RUN, "different values"),
	BAD(INI RSD "CopyPriority=1\n" RSD "ReadOnly=3\n" RUN,
	    "[ReplicationSettingData] is given twice"),
	BAD(INI GOAL GOAL RUN, "[TargetSettingGoal] is given twice"),
	BAD(INI RSD GOAL "ReadOnly=3\n" RSD RUN,
	    "[ReplicationSettingData] is given twice"),
	BAD(RSD "CopyPriority=1\n" RUN, "SyncType is missing"),
	BAD(INI RSD "Pairng=3\n" RUN,
	    "[ReplicationSettingData]: unknown property \"Pairng\"; did you mean "
	    "\"Pairing\"?"),
	BAD(INI RSD "pairing=3\n" RUN, "did you mean \"Pairing\"?"),
	BAD(INI RSD "SyncType=7\n" RUN, "unknown property \"SyncType\""),
	BAD(INI RSD "InstanceID=x\n" RUN, "the inherited property InstanceID cannot be"),
	BAD(INI GOAL "ElementName=x\n" RUN, "[TargetSettingGoal]: the inherited"),
	BAD(INI RSD "quiesce_command=reboot\n" RUN,
	    "unknown property \"quiesce_command\""),
	BAD(INI RSD "shared_method=none\n" RUN, "unknown property \"shared_method\""),
	BAD(INI RSD "max_bytes_per_second=1\n" RUN, "\"max_bytes_per_second\""),
	BAD(INI RSD "Pairing=3\nPairing=3\n" RUN,
	    "Pairing is given twice, in line 4 and line 5"),
	BAD(INI RSD "CopyPriority=1\nReadOnly=3\nCopyPriority=2\n" RUN,
	    "CopyPriority is given twice, in line 4 and line 6"),
	BAD(INI GOAL "ReadOnly=3\nReadOnly=3\n" RUN,
	    "ReadOnly is given twice, in line 4 and line 5"),
	BAD(INI GOAL "Pairing=3\n" RUN,
	    "[TargetSettingGoal]: unknown property \"Pairing\""),
	BAD(INI GOAL "CopyPriority=1\n" RUN, "valid: ThinProvisioningPolicy, ReadOnly"),
	BAD(INI RSD "CopyPriority\n" RUN, "line 4: no = in the line"),
	/* A code 5 is told before what is not supported, also behind it. */
	BAD(INI RSD "Multihop=2\nCopyPriority=5\n" RUN, "CopyPriority: \"5\""),
	BAD(INI GOAL "ReadOnly=5\n" RSD "Multihop=2\n" RUN, "ReadOnly: \"5\""),
	BAD(INI RSD "Multihop=2\nPairing=32768\n" GOAL "ReadOnly=x\n" RUN,
	    "ReadOnly: \"x\""),
	BAD("SyncType=Mirror\nSourceGroup=prod\n" RSD "CopyPriority=x\n" RUN,
	    "CopyPriority: \"x\""),
	NOT("SyncType=Mirror\nSourceGroup=prod\n" RSD "CopyPriority=1\n" RUN,
	    "SyncType: Mirror is not supported"),

	/* What hangs on other parameters, and on the members. */
	BAD(INI RSD "OnGroupOrListError=Continue\n" RUN,
	    "add Consistency=No Consistency"),
	BAD(INI "Consistency=3\n" RSD "OnGroupOrListError=2\n" RUN,
	    "excludes Sequential Consistency"),
	JOB("SyncType=Clone\nSourceGroup=mixed\n" RSD "OnGroupOrListError=2\n" RUN,
	    "SyncType=Clone|SourceGroup=mixed|[ReplicationSettingData]|"
	    "OnGroupOrListError=Continue"),
	NOT("SyncType=Clone\nSourceGroup=mixed\n" RSD "ConsistentPointInTime=true\n" RUN,
	    "ConsistentPointInTime: true is not to be had with shared_method = none"),
	JOB("SyncType=Clone\nSourceGroup=mixed\n" RSD "ConsistentPointInTime=no\n" RUN,
	    "SyncType=Clone|SourceGroup=mixed|[ReplicationSettingData]|"
	    "ConsistentPointInTime=false"),
	NOT("SyncType=Clone\nSourceGroup=mixed\n" RSD "DesiredCopyMethodology=9\n" RUN,
	    "Snap-And-Clone is not to be had, as member \"s\" is shared"),
	JOB("SyncType=Clone\nSourceGroup=mixed\n" RSD "DesiredCopyMethodology=3\n" RUN,
	    "SyncType=Clone|SourceGroup=mixed|[ReplicationSettingData]|"
	    "DesiredCopyMethodology=Full Copy"),
	BAD(INI RSD "TargetElementResourcePool=3\n" RUN,
	    "TargetElementResourcePool: the sources are not in one pool of LunFS"),
	JOB(INI "TargetPool=p\n" RSD "TargetElementResourcePool=3\n" RUN,
	    CPR "|TargetPool=p|[ReplicationSettingData]|"
		"TargetElementResourcePool=Same as source element"),
	BAD(INI RSD "TargetElementSupplier=1\n" RUN,
	    "TargetElementSupplier: Use existing needs a TargetGroup whose members are"),
	BAD(INI "TargetGroup=empty\n" RSD "TargetElementSupplier=5\n" RUN,
	    "TargetElementSupplier: Client must supply needs a TargetGroup"),
	BAD(INI "TargetGroup=luns\n" RSD "TargetElementSupplier=2\n" RUN,
	    "TargetElementSupplier: Create new excludes TargetGroup=luns"),
	JOB(INI "TargetGroup=empty\n" RSD "TargetElementSupplier=2\n" RUN,
	    CPR "|TargetGroup=empty|[ReplicationSettingData]|"
		"TargetElementSupplier=Create new"),
	JOB(INI "TargetGroup=luns\n" RSD "TargetElementSupplier=4\nPairing=4\n" RUN,
	    CPR "|TargetGroup=luns|[ReplicationSettingData]|"
		"TargetElementSupplier=Instrumentation decides|Pairing=Optimum"),
	BAD("SyncType=Clone\nSourceElement=a\nTargetGroup=smalls\n" RSD "Pairing=4\n" RUN,
	    "a target is at least as large as its source"),
	BAD(INI "TargetGroup=ones\n" RSD "UnequalGroupsAction=2\n" RUN,
	    "set UnequalGroupsAction to \"Allow source group to be larger\""),
	BAD(INI "TargetGroup=ones\n" RSD "UnequalGroupsAction=4\n" RUN,
	    "set UnequalGroupsAction to \"Allow source group to be larger\""),
	JOB(INI "TargetGroup=ones\n" RSD "UnequalGroupsAction=3\n" RUN,
	    CPR "|TargetGroup=ones|[ReplicationSettingData]|"
		"UnequalGroupsAction=Allow source group to be larger"),
	BAD("SyncType=Clone\nSourceElement=a\nTargetGroup=luns\n" RSD
	    "UnequalGroupsAction=3\n" RUN,
	    "set UnequalGroupsAction to \"Allow target group to be larger\""),
	JOB("SyncType=Clone\nSourceElement=a\nTargetGroup=luns\n" RSD
	    "UnequalGroupsAction=4\n" RUN,
	    CAR "|TargetGroup=luns|[ReplicationSettingData]|"
		"UnequalGroupsAction=Allow target group to be larger"),
	DONE("SyncType=7\nSourceElement=b\nTargetElementCount=2\n" GOAL THICK "\n" RUN,
	     "SyncType=Snapshot|SourceElement=b|TargetElementCount=2|"
	     "[TargetSettingGoal]|" THICK),
};

#define TABLE(table)                       \
	{                                  \
#table, table, ROWS(table) \
	}
const struct contract_table contract_tables[] = {
	TABLE(sync_types),    TABLE(modes),	 TABLE(consistencies), TABLE(wait_states),
	TABLE(names),	      TABLE(exclusions), TABLE(texts),	       TABLE(counts),
	TABLE(access_points), TABLE(settings),
};
const size_t contract_n_tables = ROWS(contract_tables);
