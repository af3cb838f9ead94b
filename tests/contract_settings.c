/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What each value of each property of [ReplicationSettingData] and [TargetSettingGoal] is
 * answered, with SyncType=Snapshot and SyncType=Clone: the rows of contract.h's
 * struct contract_property, carried out by check_contract.c.
 */

#include "tests/contract.h"

#include "conf/outcome.h"
#include "tests/unit.h"

#define SOURCE "SourceElement=a\n"
#define NOT CIM_RETURN_NOT_SUPPORTED
#define BAD CIM_RETURN_INVALID_PARAMETER

/* A value by its number and by its name, and how both read back; with such parameters. */
#define VALUE_WITH(number, name, snapshot, clone, parameters) \
	{ number, name, snapshot, clone, parameters },        \
	{                                                     \
		name, name, snapshot, clone, parameters       \
	}
#define VALUE(number, name, snapshot, clone) \
	VALUE_WITH(number, name, snapshot, clone, NULL)
#define TAKEN(number, name) VALUE(number, name, 0, 0)
#define NEITHER(number, name) VALUE(number, name, NOT, NOT)
#define FORM(value, canonical)               \
	{                                    \
		value, canonical, 0, 0, NULL \
	}
#define LATER(value)                         \
	{                                    \
		value, value, NOT, NOT, NULL \
	}
#define WRONG(value, words)                  \
	{                                    \
		value, words, BAD, BAD, NULL \
	}
#define NO_VALUE WRONG("", "has no value; leave it out for NULL")

/* Not a value of the map: what is reserved before it, and behind it, vendors' values, and
 * what is no number and no name. */
#define RESERVED(number) WRONG(number, "\"" number "\" is not one of its values; valid: ")
#define VENDOR(number)                                                \
	{                                                             \
		number, number " is a vendor's value", NOT, NOT, NULL \
	}
#define BEHIND(next)                                                               \
	RESERVED(next), RESERVED("32767"), VENDOR("32768"), VENDOR("65535"),       \
		RESERVED("65536"), WRONG("-1", "\"-1\" is not one of its values"), \
		WRONG("1.5", "\"1.5\" is not one of its values"),                  \
		WRONG("0x2", "\"0x2\" is not one of its values"),                  \
		WRONG("nonsense", "\"nonsense\" is not one of its values"), NO_VALUE

#define PROPERTY(name, values, snapshot, clone)                     \
	{                                                           \
		name, values, ROWS(values), snapshot, clone, SOURCE \
	}

/* ---- what is true or false ----------------------------------------------------------- */

#define NO_BOOLEAN                                                 \
	WRONG("1.5", "\"1.5\" is neither true nor false"),         \
		WRONG("2", "\"2\" is neither true nor false"),     \
		WRONG("tru", "\"tru\" is neither true nor false"), \
		WRONG("false.", "\"false.\" is neither true nor false"), NO_VALUE

static const struct contract_value any_boolean[] = {
	FORM("true", "true"), FORM("false", "false"),
	FORM("TRUE", "true"), FORM("No", "false"),
	NO_BOOLEAN,
};

static const struct contract_value only_false[] = {
	FORM("false", "false"),
	LATER("true"),
	NO_BOOLEAN,
};

/* ---- what is a number, or a time ------------------------------------------------------ */

static const struct contract_value multihop[] = {
	FORM("1", "1"),
	FORM("00001", "1"),
	LATER("2"),
	LATER("65535"),
	WRONG("0", "\"0\" is not a number from 1 to 65535"),
	WRONG("65536", "\"65536\" is not a number from 1 to 65535"),
	WRONG("-1", "\"-1\" is not a number"),
	WRONG("1.5", "\"1.5\" is not a number"),
	WRONG("one", "\"one\" is not a number"),
	NO_VALUE,
};

static const struct contract_value delta_blocks[] = {
	LATER("0"),
	LATER("1"),
	LATER("18446744073709551615"),
	WRONG("18446744073709551616", "is not a number from 0 to 18446744073709551615"),
	WRONG("-1", "\"-1\" is not a number"),
	WRONG("1K", "\"1K\" is not a number"),
	WRONG("1.5", "\"1.5\" is not a number"),
	WRONG("x", "\"x\" is not a number"),
	NO_VALUE,
};

static const struct contract_value interval[] = {
	LATER("00000000000000.000000:000"),
	LATER("00000000000500.000000:000"),
	LATER("99999999235959.999999:000"),
	WRONG("00000000240000.000000:000", "is not a CIM interval"),
	WRONG("00000000006000.000000:000", "is not a CIM interval"),
	WRONG("00000000000060.000000:000", "is not a CIM interval"),
	WRONG("00000000000500.000000:060", "is not a CIM interval"),
	WRONG("20260131123456.000000+060", "is not a CIM interval"),
	WRONG("300", "\"300\" is not a CIM interval; write ddddddddhhmmss.mmmmmm:000"),
	WRONG("5 minutes", "\"5 minutes\" is not a CIM interval"),
	WRONG("1.5", "\"1.5\" is not a CIM interval"),
	NO_VALUE,
};

static const struct contract_value read_only_property[] = {
	WRONG("1", "the property is read-only; leave it out"),
	WRONG("0", "the property is read-only; leave it out"),
	WRONG("1.5", "the property is read-only; leave it out"),
	WRONG("x", "the property is read-only; leave it out"),
	NO_VALUE,
};

/* ---- what has a value map --------------------------------------------------------------- */

static const struct contract_value methodology[] = {
	RESERVED("0"),
	WRONG("Not Specified", "\"Not Specified\" is not one of its values"),
	NEITHER("1", "Other"),
	TAKEN("2", "Instrumentation decides"),
	FORM("Implementation decides", "Instrumentation decides"),
	VALUE("3", "Full Copy", NOT, 0),
	NEITHER("4", "Incremental-Copy"),
	NEITHER("5", "Differential-Copy"),
	VALUE("6", "Copy-On-Write", 0, NOT),
	NEITHER("7", "Copy-On-Access"),
	NEITHER("8", "Delta-Update"),
	VALUE("9", "Snap-And-Clone", NOT, 0),
	NEITHER("10", "Copy-before-Activation"),
	NEITHER("11", "Redirect-On-Write"),
	BEHIND("12"),
};

static const struct contract_value on_error[] = {
	RESERVED("0"),
	RESERVED("1"),
	TAKEN("2", "Continue"),
	TAKEN("3", "Stop"),
	FORM("s-T_o p", "Stop"),
	FORM("0003", "Stop"),
	WRONG("Stopp", "did you mean \"Stop\"?"),
	BEHIND("4"),
};

static const struct contract_value unequal_groups[] = {
	RESERVED("0"),
	RESERVED("1"),
	TAKEN("2", "Return an error"),
	TAKEN("3", "Allow source group to be larger"),
	TAKEN("4", "Allow target group to be larger"),
	BEHIND("5"),
};

static const struct contract_value unequal_lists[] = {
	RESERVED("0"),
	RESERVED("1"),
	NEITHER("2", "Return an error"),
	NEITHER("3", "Allow source list to be larger"),
	NEITHER("4", "Allow target list to be larger"),
	BEHIND("5"),
};

static const struct contract_value supplier[] = {
	RESERVED("0"),
	VALUE_WITH("1", "Use existing", NOT, 0, SOURCE "TargetGroup=ones\n"),
	TAKEN("2", "Create new"),
	NEITHER("3", "Use and create"),
	TAKEN("4", "Instrumentation decides"),
	VALUE_WITH("5", "Client must supply", NOT, 0, SOURCE "TargetGroup=ones\n"),
	BEHIND("6"),
};

static const struct contract_value thin[] = {
	RESERVED("0"),
	RESERVED("1"),
	TAKEN("2", "Copy thin source to thin target"),
	TAKEN("3", "Copy thin source to full target"),
	TAKEN("4", "Copy full source to thin target"),
	TAKEN("5", "Provisioning of target same as source"),
	TAKEN("6", "Target pool decides provisioning of target element"),
	TAKEN("7", "Implementation decides provisioning of target"),
	BEHIND("8"),
};

static const struct contract_value compression[] = {
	RESERVED("0"),
	RESERVED("1"),
	NEITHER("2", "Copy compressed source to compressed target"),
	NEITHER("3", "Copy compressed source to uncompressed target"),
	NEITHER("4", "Copy uncompressed source to compressed target"),
	NEITHER("5", "Compression of target same as source"),
	NEITHER("6", "Target pool decides compression of target element"),
	NEITHER("7", "Implementation decides compression of target"),
	BEHIND("8"),
};

static const struct contract_value pairing[] = {
	RESERVED("0"),
	RESERVED("1"),
	TAKEN("2", "Instrumentation decides"),
	TAKEN("3", "Exact order"),
	TAKEN("4", "Optimum"),
	BEHIND("5"),
};

static const struct contract_value recovery[] = {
	NEITHER("0", "Unknown"),
	RESERVED("1"),
	TAKEN("2", "Automatic"),
	TAKEN("3", "Manual"),
	TAKEN("4", "Implementation decides"),
	BEHIND("5"),
};

static const struct contract_value read_only[] = {
	RESERVED("0"),
	RESERVED("1"),
	NEITHER("2", "SystemElement"),
	TAKEN("3", "SyncedElement"),
	NEITHER("4", "Both"),
	WRONG("true", "\"true\" is not one of its values; valid: SystemElement"),
	BEHIND("5"),
};

static const struct contract_value target_pool[] = {
	RESERVED("0"),
	RESERVED("1"),
	TAKEN("2", "Implementation decides"),
	VALUE_WITH("3", "Same as source element", 0, 0, "SourceElement=kept_1\n"),
	BEHIND("4"),
};

static const struct contract_value target_goal[] = {
	RESERVED("0"),
	RESERVED("1"),
	TAKEN("2", "Implementation decides"),
	TAKEN("3", "Same as source element"),
	BEHIND("4"),
};

static const struct contract_value priority[] = {
	TAKEN("0", "Not Managed"), TAKEN("1", "Low"),	 TAKEN("2", "Same"),
	TAKEN("3", "High"),	   TAKEN("4", "Urgent"), BEHIND("5"),
};

/* ---- the properties ------------------------------------------------------------------- */

const struct contract_property contract_properties[] = {
	PROPERTY("ConsistentPointInTime", any_boolean, "false", "false"),
	PROPERTY("DesiredCopyMethodology", methodology, "Copy-On-Write", "Full Copy"),
	PROPERTY("Multihop", multihop, "1", "1"),
	{ "OnGroupOrListError", on_error, ROWS(on_error), "Stop", "Stop",
	  SOURCE "Consistency=No Consistency\n" },
	PROPERTY("UnequalGroupsAction", unequal_groups, "Return an error",
		 "Return an error"),
	PROPERTY("TargetElementSupplier", supplier, "Instrumentation decides",
		 "Instrumentation decides"),
	PROPERTY("ThinProvisioningPolicy", thin,
		 "Implementation decides provisioning of target",
		 "Implementation decides provisioning of target"),
	PROPERTY("Pairing", pairing, "Exact order", "Exact order"),
	PROPERTY("FailedCopyStopsHostIO", only_false, "false", "false"),
	PROPERTY("CopyRecoveryMode", recovery, "Automatic", "Automatic"),
	PROPERTY("UnequalListsAction", unequal_lists, NULL, NULL),
	PROPERTY("DeltaUpdateInterval", interval, NULL, NULL),
	PROPERTY("DeltaUpdateBlocks", delta_blocks, NULL, NULL),
	PROPERTY("ReadOnly", read_only, NULL, NULL),
	PROPERTY("StorageCompressionPolicy", compression, NULL, NULL),
	PROPERTY("TargetElementResourcePool", target_pool, "Implementation decides",
		 "Implementation decides"),
	PROPERTY("TargetElementGoal", target_goal, "Implementation decides",
		 "Implementation decides"),
	PROPERTY("RRCSoftwareCompressionEnabled", only_false, "false", "false"),
	PROPERTY("RRCHardwareCompressionEnabled", only_false, "false", "false"),
	PROPERTY("AutoDelete", only_false, "false", "false"),
	PROPERTY("TimeBeforeRemoval", interval, NULL, NULL),
	PROPERTY("ConsistencyExempt", only_false, "false", "false"),
	PROPERTY("ConsistentAsyncCopy", only_false, "false", "false"),
	PROPERTY("DesiredRPO", interval, NULL, NULL),
	PROPERTY("MaximumSkew", read_only_property, NULL, NULL),
	PROPERTY("CopyPriority", priority, "Same", "Same"),
};
const size_t contract_n_properties = ROWS(contract_properties);

const struct contract_property contract_goals[] = {
	PROPERTY("ThinProvisioningPolicy", thin, NULL, NULL),
	PROPERTY("ReadOnly", read_only, NULL, NULL),
};
const size_t contract_n_goals = ROWS(contract_goals);
