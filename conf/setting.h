/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_SETTING_H
#define LUNFS_SETTING_H

/*
 * The properties of CIM_ReplicationSettingData (CIM schema 2.49): names, types
 * and value maps, for `[setting]` sections of the configuration and the
 * sections of a spec.  The maps used by no other class are here, in the form
 * of conf/cim.h.
 */

#include <stdbool.h>
#include <stddef.h>

#include "conf/cim.h"

#define SETTING_ON_ERROR(X)                         \
	X(SETTING_ON_ERROR_CONTINUE, 2, "Continue") \
	X(SETTING_ON_ERROR_STOP, 3, "Stop")

#define SETTING_UNEQUAL_GROUPS(X)                                              \
	X(SETTING_UNEQUAL_GROUPS_ERROR, 2, "Return an error")                  \
	X(SETTING_UNEQUAL_GROUPS_SOURCE, 3, "Allow source group to be larger") \
	X(SETTING_UNEQUAL_GROUPS_TARGET, 4, "Allow target group to be larger")

#define SETTING_UNEQUAL_LISTS(X)                                             \
	X(SETTING_UNEQUAL_LISTS_ERROR, 2, "Return an error")                 \
	X(SETTING_UNEQUAL_LISTS_SOURCE, 3, "Allow source list to be larger") \
	X(SETTING_UNEQUAL_LISTS_TARGET, 4, "Allow target list to be larger")

#define SETTING_SUPPLIER(X)                                               \
	X(SETTING_SUPPLIER_EXISTING, 1, "Use existing")                   \
	X(SETTING_SUPPLIER_NEW, 2, "Create new")                          \
	X(SETTING_SUPPLIER_BOTH, 3, "Use and create")                     \
	X(SETTING_SUPPLIER_INSTRUMENTATION, 4, "Instrumentation decides") \
	X(SETTING_SUPPLIER_CLIENT, 5, "Client must supply")

#define SETTING_THIN(X)                                                               \
	X(SETTING_THIN_TO_THIN, 2, "Copy thin source to thin target")                 \
	X(SETTING_THIN_TO_FULL, 3, "Copy thin source to full target")                 \
	X(SETTING_FULL_TO_THIN, 4, "Copy full source to thin target")                 \
	X(SETTING_THIN_AS_SOURCE, 5, "Provisioning of target same as source")         \
	X(SETTING_THIN_POOL, 6, "Target pool decides provisioning of target element") \
	X(SETTING_THIN_IMPLEMENTATION, 7, "Implementation decides provisioning of target")

#define SETTING_COMPRESSION(X)                                                      \
	X(SETTING_COMPRESSED_TO_COMPRESSED, 2,                                      \
	  "Copy compressed source to compressed target")                            \
	X(SETTING_COMPRESSED_TO_PLAIN, 3,                                           \
	  "Copy compressed source to uncompressed target")                          \
	X(SETTING_PLAIN_TO_COMPRESSED, 4,                                           \
	  "Copy uncompressed source to compressed target")                          \
	X(SETTING_COMPRESSION_AS_SOURCE, 5, "Compression of target same as source") \
	X(SETTING_COMPRESSION_POOL, 6,                                              \
	  "Target pool decides compression of target element")                      \
	X(SETTING_COMPRESSION_IMPLEMENTATION, 7,                                    \
	  "Implementation decides compression of target")

#define SETTING_PAIRING(X)                                               \
	X(SETTING_PAIRING_INSTRUMENTATION, 2, "Instrumentation decides") \
	X(SETTING_PAIRING_EXACT, 3, "Exact order")                       \
	X(SETTING_PAIRING_OPTIMUM, 4, "Optimum")

#define SETTING_READ_ONLY(X)                            \
	X(SETTING_READ_ONLY_SOURCE, 2, "SystemElement") \
	X(SETTING_READ_ONLY_TARGET, 3, "SyncedElement") \
	X(SETTING_READ_ONLY_BOTH, 4, "Both")

#define SETTING_TARGET_POOL(X)                                             \
	X(SETTING_TARGET_POOL_IMPLEMENTATION, 2, "Implementation decides") \
	X(SETTING_TARGET_POOL_AS_SOURCE, 3, "Same as source element")

#define SETTING_TARGET_GOAL(X)                                             \
	X(SETTING_TARGET_GOAL_IMPLEMENTATION, 2, "Implementation decides") \
	X(SETTING_TARGET_GOAL_AS_SOURCE, 3, "Same as source element")

enum setting_on_error { SETTING_ON_ERROR(CIM_ENUM_) };
enum setting_unequal_groups { SETTING_UNEQUAL_GROUPS(CIM_ENUM_) };
enum setting_unequal_lists { SETTING_UNEQUAL_LISTS(CIM_ENUM_) };
enum setting_supplier { SETTING_SUPPLIER(CIM_ENUM_) };
enum setting_thin { SETTING_THIN(CIM_ENUM_) };
enum setting_compression { SETTING_COMPRESSION(CIM_ENUM_) };
enum setting_pairing { SETTING_PAIRING(CIM_ENUM_) };
enum setting_read_only { SETTING_READ_ONLY(CIM_ENUM_) };
enum setting_target_pool { SETTING_TARGET_POOL(CIM_ENUM_) };
enum setting_target_goal { SETTING_TARGET_GOAL(CIM_ENUM_) };

enum {
	SETTING_N_PROPERTIES = 26,
	SETTING_VALUE_SIZE = 64, /* of the longest canonical value, with its NUL */
};

/* The properties, in the order of the class; the index is used below. */
extern const char *const setting_names[SETTING_N_PROPERTIES];

/* Those that a spec's [TargetSettingGoal] may have: what a target element is
 * like, not how it is copied. */
extern const char *const setting_goal_names[];
extern const size_t setting_n_goal_names;

/* The index of a property, or -1. */
int setting_find(const char *name);

/* Whether a spec can set it for a SyncType so far; the others are code 1. */
bool setting_is_supported(int property, unsigned sync_type);

/* The values of it that are carried out for a SyncType, in canonical form and the order
 * of their numbers; "" = none. */
void setting_list_supported(int property, unsigned sync_type, const char *between,
			    char *buf, size_t size);

/* Its value map, and the lowest value of that which it takes; NULL: it has none.
 * And what it takes, a phrase; NULL: nothing, it is read-only. */
const struct cim_map *setting_map(int property, unsigned *ret_lowest);
const char *setting_type(int property);
/* The setting's own word for a value of its map. */
const char *setting_value_name(const struct cim_map *map, unsigned number);

/* Its PropertyName in GetSupportedReplicationSettingData; 0 = it has none there. */
unsigned setting_code(int property);

/* What holds where it is NULL: a number of its map, or a boolean; of a property that has
 * such a default. */
unsigned setting_default(const char *name, unsigned sync_type);
/* The same as the canonical text; false: it has none. */
bool setting_format_default(int property, unsigned sync_type,
			    char ret_value[static SETTING_VALUE_SIZE]);

/*
 * Checks a value.  0 with the canonical text in *ret_value: the ValueMap name,
 * `true` or `false`, a number, or a CIM interval.  -EINVAL for a value that is
 * none or a property that cannot be set; -EOPNOTSUPP for one of a vendor range:
 * both with a sentence in error that begins with the property's name.
 */
int setting_check(int property, const char *value,
		  char ret_value[static SETTING_VALUE_SIZE], char *error,
		  size_t error_size);

/* Whether a canonical value is carried out for a SyncType: 0, or -EOPNOTSUPP with a
 * sentence that begins with the property's name. */
int setting_check_supported(int property, const char *value, unsigned sync_type,
			    char *error, size_t error_size);

/*
 * Lines are `Name=value`, canonical, each ended by a newline, as a spec's section and
 * struct config_setting have them; NULL = none.
 */
/* The same of all of them; the first that is not. */
int setting_check_lines(const char *lines, unsigned sync_type, char *error,
			size_t error_size);
bool setting_is_given(const char *lines, const char *name);
/* The number of the value that is given, else of the default (which the property has
 * then): of its map, a boolean, or itself. */
unsigned setting_value(const char *lines, const char *name, unsigned sync_type);

/* Why an unknown name is refused, with the remedy: for `in [section]: ...`. */
void setting_explain_unknown(const char *name, const char *const *names, size_t n_names,
			     char *error, size_t error_size);

#endif
