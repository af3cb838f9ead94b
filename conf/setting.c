/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/setting.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conf/config.h"
#include "conf/name.h"
#include "conf/value.h"

#define VALUE_(symbol, number, name) { number, name },
#define MAP_(map, property, table)                                                     \
	static const struct cim_value map##_values[] = { table(VALUE_) };              \
	static const struct cim_map map = {                                            \
		property, map##_values, sizeof(map##_values) / sizeof(map##_values[0]) \
	}

MAP_(on_error, "OnGroupOrListError", SETTING_ON_ERROR);
MAP_(unequal_groups, "UnequalGroupsAction", SETTING_UNEQUAL_GROUPS);
MAP_(unequal_lists, "UnequalListsAction", SETTING_UNEQUAL_LISTS);
MAP_(supplier, "TargetElementSupplier", SETTING_SUPPLIER);
MAP_(thin, "ThinProvisioningPolicy", SETTING_THIN);
MAP_(compression, "StorageCompressionPolicy", SETTING_COMPRESSION);
MAP_(pairing, "Pairing", SETTING_PAIRING);
MAP_(read_only, "ReadOnly", SETTING_READ_ONLY);
MAP_(target_pool, "TargetElementResourcePool", SETTING_TARGET_POOL);
MAP_(target_goal, "TargetElementGoal", SETTING_TARGET_GOAL);

enum type { TYPE_BOOLEAN, TYPE_MAP, TYPE_UINT16, TYPE_UINT64, TYPE_INTERVAL, TYPE_FIXED };

enum { NONE = -1 };

#define BIT(n) (1u << (n))
#define NOT_BUILT 0u
#define FALSE_ONLY BIT(false)
#define ANY_BOOLEAN (BIT(false) | BIT(true))
#define ANY_RECOVERY                                              \
	(BIT(CIM_RECOVERY_AUTOMATIC) | BIT(CIM_RECOVERY_MANUAL) | \
	 BIT(CIM_RECOVERY_IMPLEMENTATION))
#define ANY_PRIORITY                                             \
	(BIT(CIM_PRIORITY_NOT_MANAGED) | BIT(CIM_PRIORITY_LOW) | \
	 BIT(CIM_PRIORITY_SAME) | BIT(CIM_PRIORITY_HIGH) | BIT(CIM_PRIORITY_URGENT))
#define ANY_THIN                                                   \
	(BIT(SETTING_THIN_TO_THIN) | BIT(SETTING_THIN_TO_FULL) |   \
	 BIT(SETTING_FULL_TO_THIN) | BIT(SETTING_THIN_AS_SOURCE) | \
	 BIT(SETTING_THIN_POOL) | BIT(SETTING_THIN_IMPLEMENTATION))
#define SUPPLIERS                                                     \
	(BIT(SETTING_SUPPLIER_EXISTING) | BIT(SETTING_SUPPLIER_NEW) | \
	 BIT(SETTING_SUPPLIER_INSTRUMENTATION) | BIT(SETTING_SUPPLIER_CLIENT))
#define ANY_OF_THREE (BIT(2) | BIT(3) | BIT(4))
#define ANY_OF_TWO (BIT(2) | BIT(3)) /* of a map with these two values */

/*
 * X(name, its number in GetSupportedReplicationSettingData, type, map, lowest value of
 * the map (or number) that the property takes, default of a Snapshot, of a Clone, the
 * values that are carried out for a Snapshot, for a Clone: a bit for each number)
 */
#define PROPERTIES(X)                                                                    \
	X(ConsistentPointInTime, 2, TYPE_BOOLEAN, NULL, 0, false, false, ANY_BOOLEAN,    \
	  ANY_BOOLEAN)                                                                   \
	X(DesiredCopyMethodology, 3, TYPE_MAP, &cim_copy_methodology, 1,                 \
	  CIM_METHODOLOGY_COPY_ON_WRITE, CIM_METHODOLOGY_FULL_COPY,                      \
	  BIT(CIM_METHODOLOGY_IMPLEMENTATION) | BIT(CIM_METHODOLOGY_COPY_ON_WRITE),      \
	  BIT(CIM_METHODOLOGY_IMPLEMENTATION) | BIT(CIM_METHODOLOGY_FULL_COPY) |         \
		  BIT(CIM_METHODOLOGY_SNAP_AND_CLONE))                                   \
	X(Multihop, 4, TYPE_UINT16, NULL, 1, 1, 1, BIT(1), BIT(1))                       \
	X(OnGroupOrListError, 5, TYPE_MAP, &on_error, 0, SETTING_ON_ERROR_STOP,          \
	  SETTING_ON_ERROR_STOP, ANY_OF_TWO, ANY_OF_TWO)                                 \
	X(UnequalGroupsAction, 6, TYPE_MAP, &unequal_groups, 0,                          \
	  SETTING_UNEQUAL_GROUPS_ERROR, SETTING_UNEQUAL_GROUPS_ERROR, ANY_OF_THREE,      \
	  ANY_OF_THREE)                                                                  \
	X(TargetElementSupplier, 7, TYPE_MAP, &supplier, 0,                              \
	  SETTING_SUPPLIER_INSTRUMENTATION, SETTING_SUPPLIER_INSTRUMENTATION,            \
	  BIT(SETTING_SUPPLIER_NEW) | BIT(SETTING_SUPPLIER_INSTRUMENTATION), SUPPLIERS)  \
	X(ThinProvisioningPolicy, 8, TYPE_MAP, &thin, 0, SETTING_THIN_IMPLEMENTATION,    \
	  SETTING_THIN_IMPLEMENTATION, ANY_THIN, ANY_THIN)                               \
	X(Pairing, 9, TYPE_MAP, &pairing, 0, SETTING_PAIRING_EXACT,                      \
	  SETTING_PAIRING_EXACT, ANY_OF_THREE, ANY_OF_THREE)                             \
	X(FailedCopyStopsHostIO, 10, TYPE_BOOLEAN, NULL, 0, false, false, FALSE_ONLY,    \
	  FALSE_ONLY)                                                                    \
	X(CopyRecoveryMode, 11, TYPE_MAP, &cim_copy_recovery_mode, 0,                    \
	  CIM_RECOVERY_AUTOMATIC, CIM_RECOVERY_AUTOMATIC, ANY_RECOVERY, ANY_RECOVERY)    \
	X(UnequalListsAction, 12, TYPE_MAP, &unequal_lists, 0, NONE, NONE, NOT_BUILT,    \
	  NOT_BUILT)                                                                     \
	X(DeltaUpdateInterval, 13, TYPE_INTERVAL, NULL, 0, NONE, NONE, NOT_BUILT,        \
	  NOT_BUILT)                                                                     \
	X(DeltaUpdateBlocks, 14, TYPE_UINT64, NULL, 0, NONE, NONE, NOT_BUILT, NOT_BUILT) \
	X(ReadOnly, 15, TYPE_MAP, &read_only, 0, NONE, NONE,                             \
	  BIT(SETTING_READ_ONLY_TARGET), BIT(SETTING_READ_ONLY_TARGET))                  \
	X(StorageCompressionPolicy, 16, TYPE_MAP, &compression, 0, NONE, NONE,           \
	  NOT_BUILT, NOT_BUILT)                                                          \
	X(TargetElementResourcePool, 17, TYPE_MAP, &target_pool, 0,                      \
	  SETTING_TARGET_POOL_IMPLEMENTATION, SETTING_TARGET_POOL_IMPLEMENTATION,        \
	  ANY_OF_TWO, ANY_OF_TWO)                                                        \
	X(TargetElementGoal, 18, TYPE_MAP, &target_goal, 0,                              \
	  SETTING_TARGET_GOAL_IMPLEMENTATION, SETTING_TARGET_GOAL_IMPLEMENTATION,        \
	  ANY_OF_TWO, ANY_OF_TWO)                                                        \
	X(RRCSoftwareCompressionEnabled, 19, TYPE_BOOLEAN, NULL, 0, false, false,        \
	  FALSE_ONLY, FALSE_ONLY)                                                        \
	X(RRCHardwareCompressionEnabled, 20, TYPE_BOOLEAN, NULL, 0, false, false,        \
	  FALSE_ONLY, FALSE_ONLY)                                                        \
	X(AutoDelete, 21, TYPE_BOOLEAN, NULL, 0, false, false, FALSE_ONLY, FALSE_ONLY)   \
	X(TimeBeforeRemoval, 23, TYPE_INTERVAL, NULL, 0, NONE, NONE, NOT_BUILT,          \
	  NOT_BUILT)                                                                     \
	X(ConsistencyExempt, 24, TYPE_BOOLEAN, NULL, 0, false, false, FALSE_ONLY,        \
	  FALSE_ONLY)                                                                    \
	X(ConsistentAsyncCopy, 25, TYPE_BOOLEAN, NULL, 0, false, false, FALSE_ONLY,      \
	  FALSE_ONLY)                                                                    \
	X(DesiredRPO, 26, TYPE_INTERVAL, NULL, 0, NONE, NONE, NOT_BUILT, NOT_BUILT)      \
	X(MaximumSkew, 27, TYPE_FIXED, NULL, 0, NONE, NONE, NOT_BUILT, NOT_BUILT)        \
	X(CopyPriority, 0, TYPE_MAP, &cim_copy_priority, 0, CIM_PRIORITY_SAME,           \
	  CIM_PRIORITY_SAME, ANY_PRIORITY, ANY_PRIORITY)

#define NAME_(name, ...) #name,
#define ROW_(name, code, type, map, lowest, snapshot, clone, of_snapshot, of_clone) \
	{ type, map, lowest, code, snapshot, clone, of_snapshot, of_clone },

const char *const setting_names[SETTING_N_PROPERTIES] = { PROPERTIES(NAME_) };

static const struct property {
	enum type type;
	const struct cim_map *map;
	unsigned lowest;
	unsigned code;
	int snapshot, clone; /* NONE, or a number of the map, a boolean, a number */
	unsigned of_snapshot, of_clone; /* the numbers that are carried out, a bit each */
} properties[] = { PROPERTIES(ROW_) };
_Static_assert(sizeof(properties) / sizeof(properties[0]) == SETTING_N_PROPERTIES,
	       "one row for each name");

const char *const setting_goal_names[] = { "ThinProvisioningPolicy", "ReadOnly" };
const size_t setting_n_goal_names = sizeof(setting_goal_names) / sizeof(char *);

/* CIM_SettingData's and CIM_ManagedElement's: known, but LunFS has no use for
 * a value. */
static const char *const inherited[] = {
	"Caption",     "ChangeableType", "ComponentSetting", "ConfigurationName",
	"Description", "ElementName",	 "Generation",	     "InstanceID",
	"SoID",	       "SoOrgID",
};

int setting_find(const char *name)
{
	for (int i = 0; i < SETTING_N_PROPERTIES; i++)
		if (!strcmp(setting_names[i], name))
			return i;
	return -1;
}

static unsigned supported(int property, unsigned sync_type)
{
	const struct property *p = &properties[property];

	return sync_type == CIM_SYNC_SNAPSHOT ? p->of_snapshot : p->of_clone;
}

bool setting_is_supported(int property, unsigned sync_type)
{
	return supported(property, sync_type);
}

const struct cim_map *setting_map(int property, unsigned *ret_lowest)
{
	*ret_lowest = properties[property].lowest;
	return properties[property].map;
}

const char *setting_type(int property)
{
	static const char *const names[] = {
		[TYPE_BOOLEAN] = "true or false",
		[TYPE_MAP] = "a value",
		[TYPE_UINT16] = "a number from 1 to 65535",
		[TYPE_UINT64] = "a number from 0 to 18446744073709551615",
		[TYPE_INTERVAL] = "a CIM interval, ddddddddhhmmss.mmmmmm:000",
		[TYPE_FIXED] = NULL,
	};

	return names[properties[property].type];
}

unsigned setting_code(int property)
{
	return properties[property].code;
}

static int default_of(int property, unsigned sync_type)
{
	const struct property *p = &properties[property];

	return sync_type == CIM_SYNC_SNAPSHOT ? p->snapshot : p->clone;
}

unsigned setting_default(const char *name, unsigned sync_type)
{
	return (unsigned)default_of(setting_find(name), sync_type);
}

/* What else a [setting] of the configuration has. */
static bool is_own_key(const char *name)
{
	for (size_t i = 0; i < config_n_keys; i++)
		if (!strcmp(config_keys[i].section, "setting") &&
		    !strcmp(config_keys[i].key, name))
			return true;
	return false;
}

void setting_explain_unknown(const char *name, const char *const *names, size_t n_names,
			     char *error, size_t error_size)
{
	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++)
		if (!strcmp(inherited[i], name)) {
			snprintf(error, error_size,
				 "the inherited property %s cannot be set; leave it out",
				 name);
			return;
		}
	if (is_own_key(name)) {
		snprintf(error, error_size,
			 "unknown property %s: it is a key of a [setting] in lunfs.conf; "
			 "put it there, and name that one: ReplicationSettingData=NAME",
			 name_quote(name).s);
		return;
	}
	snprintf(error, error_size, "unknown property %s; %s", name_quote(name).s,
		 name_hint(name, names, n_names).s);
}

/* The setting's own word for a value that the association's map, shared with
 * it, names otherwise (CIM_ReplicationSettingData.DesiredCopyMethodology). */
static const char *own_name(const struct cim_map *map, unsigned number)
{
	if (map == &cim_copy_methodology && number == CIM_METHODOLOGY_IMPLEMENTATION)
		return "Instrumentation decides";
	return cim_name(map, number);
}

const char *setting_value_name(const struct cim_map *map, unsigned number)
{
	return own_name(map, number);
}

static int parse_map(const struct cim_map *map, const char *value, unsigned *ret_number)
{
	for (size_t i = 0; i < map->n_values; i++)
		if (cim_same_name(own_name(map, map->values[i].number), value)) {
			*ret_number = map->values[i].number;
			return 0;
		}
	return cim_parse(map, value, ret_number);
}

static int check_map(int index, const char *value, char *ret_value, char *error,
		     size_t error_size)
{
	const struct property *p = &properties[index];
	const char *names[16];
	unsigned number = 0;
	size_t n = 0;
	int r = parse_map(p->map, value, &number);

	if (!r && number >= p->lowest && *own_name(p->map, number)) {
		snprintf(ret_value, SETTING_VALUE_SIZE, "%s", own_name(p->map, number));
		return 0;
	}
	if (!r && number >= 32768) {
		snprintf(error, error_size,
			 "%s: %u is a vendor's value, which LunFS does not have; use a "
			 "value of the standard",
			 setting_names[index], number);
		return -EOPNOTSUPP;
	}
	for (size_t i = 0; i < p->map->n_values && n < sizeof(names) / sizeof(*names);
	     i++)
		if (p->map->values[i].number >= p->lowest)
			names[n++] = own_name(p->map, p->map->values[i].number);
	snprintf(error, error_size, "%s: %s is not one of its values; %s",
		 setting_names[index], name_quote(value).s, name_hint(value, names, n).s);
	return -EINVAL;
}

static int two_digits(const char *s)
{
	return (s[0] - '0') * 10 + s[1] - '0';
}

/* A CIM interval, `ddddddddhhmmss.mmmmmm:000` (DSP0004 5.2.4). */
static bool is_interval(const char *s)
{
	static const char form[] = "dddddddddddddd.dddddd:000";

	for (size_t i = 0; i < sizeof(form); i++)
		if (form[i] == 'd' ? !isdigit((unsigned char)s[i]) : s[i] != form[i])
			return false;
	return two_digits(s + 8) < 24 && two_digits(s + 10) < 60 &&
	       two_digits(s + 12) < 60;
}

static int check_number(int index, const char *value, uint64_t limit, char *ret_value,
			char *error, size_t error_size)
{
	unsigned lowest = properties[index].lowest;
	uint64_t number;

	if (value_number(value, &number) < 0 || number > limit || number < lowest) {
		snprintf(error, error_size, "%s: %s is not a number from %u to %" PRIu64,
			 setting_names[index], name_quote(value).s, lowest, limit);
		return -EINVAL;
	}
	snprintf(ret_value, SETTING_VALUE_SIZE, "%" PRIu64, number);
	return 0;
}

int setting_check(int property, const char *value,
		  char ret_value[static SETTING_VALUE_SIZE], char *error,
		  size_t error_size)
{
	const char *name = setting_names[property];
	bool flag;

	switch (properties[property].type) {
	case TYPE_MAP:
		return check_map(property, value, ret_value, error, error_size);
	case TYPE_UINT16:
		return check_number(property, value, UINT16_MAX, ret_value, error,
				    error_size);
	case TYPE_UINT64:
		return check_number(property, value, UINT64_MAX, ret_value, error,
				    error_size);
	case TYPE_BOOLEAN:
		if (!value_bool(value, &flag)) {
			snprintf(ret_value, SETTING_VALUE_SIZE, flag ? "true" : "false");
			return 0;
		}
		snprintf(error, error_size, "%s: %s is neither true nor false", name,
			 name_quote(value).s);
		return -EINVAL;
	case TYPE_INTERVAL:
		if (is_interval(value)) {
			snprintf(ret_value, SETTING_VALUE_SIZE, "%s", value);
			return 0;
		}
		snprintf(error, error_size,
			 "%s: %s is not a CIM interval; write ddddddddhhmmss.mmmmmm:000, "
			 "five minutes are 00000000000500.000000:000",
			 name, name_quote(value).s);
		return -EINVAL;
	case TYPE_FIXED:
		break;
	}
	snprintf(error, error_size, "%s: the property is read-only; leave it out", name);
	return -EINVAL;
}

bool setting_format_default(int property, unsigned sync_type,
			    char ret_value[static SETTING_VALUE_SIZE])
{
	const struct property *p = &properties[property];
	int value = default_of(property, sync_type);

	if (value == NONE)
		return false;
	if (p->type == TYPE_MAP)
		snprintf(ret_value, SETTING_VALUE_SIZE, "%s",
			 own_name(p->map, (unsigned)value));
	else if (p->type == TYPE_BOOLEAN)
		snprintf(ret_value, SETTING_VALUE_SIZE, value ? "true" : "false");
	else
		snprintf(ret_value, SETTING_VALUE_SIZE, "%d", value);
	return true;
}

/* ---- what is carried out ---------------------------------------------------------- */

/* The number of a canonical value; -1 of one that is none (an interval). */
static int64_t number_of(int property, const char *value)
{
	const struct property *p = &properties[property];
	unsigned number;
	uint64_t big;

	if (p->type == TYPE_MAP)
		return parse_map(p->map, value, &number) < 0 ? -1 : number;
	if (p->type == TYPE_BOOLEAN)
		return !strcmp(value, "true");
	return p->type == TYPE_UINT16 && !value_number(value, &big) ? (int64_t)big : -1;
}

static void format_number(int property, unsigned number, char *buf, size_t size)
{
	const struct property *p = &properties[property];

	if (p->type == TYPE_MAP)
		snprintf(buf, size, "%s", own_name(p->map, number));
	else if (p->type == TYPE_BOOLEAN)
		snprintf(buf, size, "%s", number ? "true" : "false");
	else
		snprintf(buf, size, "%u", number);
}

void setting_list_supported(int property, unsigned sync_type, const char *between,
			    char *buf, size_t size)
{
	size_t len = 0;

	*buf = '\0';
	for (unsigned n = 0; n < 32 && len < size; n++)
		if (supported(property, sync_type) & BIT(n)) {
			len += (size_t)snprintf(buf + len, size - len, "%s",
						len ? between : "");
			if (len < size)
				format_number(property, n, buf + len, size - len);
			len += strlen(buf + len);
		}
}

int setting_check_supported(int property, const char *value, unsigned sync_type,
			    char *error, size_t error_size)
{
	int64_t number = number_of(property, value);
	const char *of = cim_name(&cim_sync_type, sync_type);
	char values[400];

	if (number >= 0 && number < 32 && supported(property, sync_type) & BIT(number))
		return 0;
	setting_list_supported(property, sync_type, ", ", values, sizeof(values));
	if (*values)
		snprintf(error, error_size,
			 "%s: %s is not supported for a %s by this version of LunFS; "
			 "supported: %s",
			 setting_names[property], value, of, values);
	else
		snprintf(error, error_size,
			 "%s=%s: the property is not supported for a %s by this version "
			 "of LunFS; leave it out",
			 setting_names[property], value, of);
	return -EOPNOTSUPP;
}

/* The value of a property in lines, or NULL. */
static const char *find_line(const char *lines, const char *name)
{
	size_t len = strlen(name);

	for (; lines && *lines; lines += strcspn(lines, "\n"), lines += *lines == '\n')
		if (!strncmp(lines, name, len) && lines[len] == '=')
			return lines + len + 1;
	return NULL;
}

bool setting_is_given(const char *lines, const char *name)
{
	return find_line(lines, name);
}

unsigned setting_value(const char *lines, const char *name, unsigned sync_type)
{
	const char *line = find_line(lines, name);
	char value[SETTING_VALUE_SIZE];
	int64_t number;

	if (!line)
		return setting_default(name, sync_type);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\n"), line);
	number = number_of(setting_find(name), value);
	return number < 0 ? setting_default(name, sync_type) : (unsigned)number;
}

int setting_check_lines(const char *lines, unsigned sync_type, char *error,
			size_t error_size)
{
	char value[SETTING_VALUE_SIZE];
	int r = 0;

	for (int i = 0; !r && i < SETTING_N_PROPERTIES; i++) {
		const char *line = find_line(lines, setting_names[i]);

		if (!line)
			continue;
		snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\n"), line);
		r = setting_check_supported(i, value, sync_type, error, error_size);
	}
	return r;
}
