/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_SPEC_H
#define LUNFS_SPEC_H

/*
 * The text that is written to `spec`: the 16 parameters of
 * CIM_ReplicationService.CreateGroupReplica, in one line or as INI (interface
 * section 4, lunfs-spec(5)).  Parsing is pure: no object is looked up here.
 * One table (spec.c) drives parsing, checking, the canonical text, the man page
 * (spec_man.c) and what its test has to cover (tests/check_contract.c).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/cim.h"
#include "conf/iscsiname.h"
#include "conf/name.h"
#include "conf/outcome.h"
#include "conf/strbuf.h"

enum {
	/* Bytes of a SourceElement: its canonical text is one line of INI. */
	SPEC_SOURCE_MAX_LEN = 185,
};

struct spec {
	char relationship_name[NAME_MAX_LEN + 1]; /* "" = NULL */
	unsigned sync_type;                       /* enum cim_sync_type; required */
	unsigned mode;                            /* enum cim_mode; 0 = NULL */
	char source_group[NAME_MAX_LEN + 1];
	char source_element[SPEC_SOURCE_MAX_LEN + 1]; /* a name, or <iqn>/<lun> */
	char source_access_point[NAME_MAX_LEN + 1];
	char target_group[NAME_MAX_LEN + 1];
	uint64_t target_element_count; /* 0 = NULL */
	char target_access_point[NAME_MAX_LEN + 1];
	unsigned consistency; /* enum cim_consistency; 0 = NULL */
	char setting[NAME_MAX_LEN + 1]; /* named [setting]; "" = NULL */
	char *setting_properties;       /* the [ReplicationSettingData] section as
					 * `Name=value` lines; NULL = none */
	char *target_setting_goal;      /* the same for [TargetSettingGoal], or its
					 * value in a one-line text */
	char target_pool[NAME_MAX_LEN + 1];
	unsigned wait_for_copy_state; /* enum cim_copy_state; 0 = NULL */
};

/*
 * Parses one call.  0 with *spec filled (spec_done() frees what it owns), or
 * -errno with the code and a sentence in *outcome that names the parameter,
 * its value and the remedy; *spec is then empty.
 *
 * Checked here, in this order: the form of the text (a final newline; one line
 * of two or more parameters, or INI whose last line is `[Run]`), unknown and
 * repeated parameters (with the nearest valid name), each value against its
 * value map and ranges (interface section 4: reserved 5, vendor and later
 * values 1), the forms of names, and exclusions (SourceGroup/SourceElement
 * exactly one, TargetGroup/TargetElementCount, …).  Values are checked before
 * anything is called not supported: code 1 is given only to a text that has no
 * code 5 in it.  What is valid but not built yet (the table in spec.c) is answered
 * 1 with a sentence naming it.
 */
int spec_parse(const char *text, size_t len, struct spec *spec, struct outcome *outcome);

void spec_done(struct spec *spec);

/* Takes a SourceElement of the form `<iqn>/<lun>` apart; false: it is a name, or NULL. */
bool spec_source_lun(const struct spec *spec,
		     char ret_target[static ISCSINAME_MAX_LEN + 1], unsigned *ret_lun);

/* Whether a parameter is supported so far: one with a value map, or TargetElementCount,
 * with that value, which the others do not look at. */
bool spec_supports(const char *parameter, uint64_t value);

/* The canonical INI text, which spec_parse() reads back to the same values. */
void spec_format(const struct spec *spec, struct strbuf *b);

/* The names of the parameters, in the order of the method's declaration. */
extern const char *const spec_parameters[];
extern const size_t spec_n_parameters;

/* A parameter as the table has it, for what describes them all or tries them all
 * (lunfs-spec(5), tests/check_contract.c). */
struct spec_about {
	const char *name;
	const struct cim_map *map; /* of its values; NULL: it has no map */
	uint32_t valid;		   /* bit n: takes the map's value n */
	uint32_t built;		   /* the same, of those that are supported so far */
	size_t max_len;		   /* bytes of a name; 0: is no name */
	uint64_t max_count;	   /* of a number from 1 on, so far; 0: is none */
	bool is_element;	   /* a name, or <iqn>/<lun> */
	bool is_output;		   /* is not for the caller to give */
	bool is_later;		   /* not supported so far, whatever its value */
	const char *null;	   /* what leaving it out means, a phrase */
};
void spec_about(size_t index, struct spec_about *ret_about);

#endif
