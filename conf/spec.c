/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/spec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/inifile.h"
#include "conf/iscsiname.h"
#include "conf/setting.h"
#include "conf/spec_text.h"
#include "conf/value.h"

/*
 * The checks go through the text several times, and the first problem ends
 * them: unknown and repeated names in the order of the text, then values in the
 * order of the table, then exclusions.  What is valid but not supported (code
 * 1) is only noted, the first of it, and answered when no check has found a
 * code 5.
 */

enum kind {
	KIND_ENUM,    /* unsigned: a value of .map */
	KIND_NAME,    /* char[.size]: the name of an object */
	KIND_ELEMENT, /* the same, or <iqn>/<lun> with SourceAccessPoint */
	KIND_COUNT,   /* uint64_t, at least 1 */
	KIND_TEXT,    /* char *: the name of an object */
	KIND_OUTPUT,  /* the call's answer, not for the caller to give */
};

#define BIT(n) (1u << (n))
#define FIELD(field) \
	.offset = offsetof(struct spec, field), .size = sizeof(((struct spec *)0)->field)

#define SYNC_TYPES                                                             \
	(BIT(CIM_SYNC_MIRROR) | BIT(CIM_SYNC_SNAPSHOT) | BIT(CIM_SYNC_CLONE) | \
	 BIT(CIM_SYNC_TOKENIZED_CLONE))
#define MODES \
	(BIT(CIM_MODE_SYNCHRONOUS) | BIT(CIM_MODE_ASYNCHRONOUS) | BIT(CIM_MODE_ADAPTIVE))
#define CONSISTENCIES (BIT(CIM_CONSISTENCY_NONE) | BIT(CIM_CONSISTENCY_SEQUENTIAL))
#define WAIT_STATES                                                 \
	(BIT(CIM_COPY_INITIALIZED) | BIT(CIM_COPY_UNSYNCHRONIZED) | \
	 BIT(CIM_COPY_SYNCHRONIZED) | BIT(CIM_COPY_INACTIVE) | BIT(CIM_COPY_PREPARED))

/*
 * X(name, its row), in the order of the method's declaration.  `valid` are the
 * values of a map that the parameter takes: a standard value that is not among
 * them is code 5, a vendor's (from 32768) code 1.  `built` are those of them
 * that are supported so far.  `is_later`: the parameter is not, whatever its
 * value.
 */
#define PARAMETERS(X)                                                                  \
	X(RelationshipName, .kind = KIND_NAME, FIELD(relationship_name))               \
	X(SyncType, .kind = KIND_ENUM, FIELD(sync_type), .map = &cim_sync_type,        \
	  .valid = SYNC_TYPES, .built = BIT(CIM_SYNC_SNAPSHOT) | BIT(CIM_SYNC_CLONE))  \
	X(Mode, .kind = KIND_ENUM, FIELD(mode), .map = &cim_mode, .valid = MODES,      \
	  .built = MODES & ~BIT(CIM_MODE_ADAPTIVE))                                    \
	X(SourceGroup, .kind = KIND_NAME, FIELD(source_group))                         \
	X(SourceElement, .kind = KIND_ELEMENT, FIELD(source_element))                  \
	X(SourceAccessPoint, .kind = KIND_NAME, FIELD(source_access_point))            \
	X(TargetGroup, .kind = KIND_NAME, FIELD(target_group))                         \
	X(TargetElementCount, .kind = KIND_COUNT, FIELD(target_element_count))         \
	X(TargetAccessPoint, .kind = KIND_NAME, FIELD(target_access_point))            \
	X(Consistency, .kind = KIND_ENUM, FIELD(consistency), .map = &cim_consistency, \
	  .valid = CONSISTENCIES, .built = CONSISTENCIES)                              \
	X(ReplicationSettingData, .kind = KIND_NAME, FIELD(setting))                   \
	X(Job, .kind = KIND_OUTPUT)                                                    \
	X(Synchronization, .kind = KIND_OUTPUT)                                        \
	X(TargetSettingGoal, .kind = KIND_TEXT, FIELD(target_setting_goal))            \
	X(TargetPool, .kind = KIND_NAME, FIELD(target_pool))                           \
	X(WaitForCopyState, .kind = KIND_ENUM, FIELD(wait_for_copy_state),             \
	  .map = &cim_copy_state, .valid = WAIT_STATES, .built = WAIT_STATES)

#define INDEX_(name, ...) PARAMETER_##name,
#define NAME_(name, ...) #name,
#define ROW_(name, ...) { __VA_ARGS__ },

enum { PARAMETERS(INDEX_) N_PARAMETERS };

const char *const spec_parameters[] = { PARAMETERS(NAME_) };
const size_t spec_n_parameters = N_PARAMETERS;

static const struct parameter {
	enum kind kind;
	size_t offset, size;
	const struct cim_map *map;
	uint32_t valid, built;
	bool is_later;
} parameters[] = { PARAMETERS(ROW_) };

/* What leaving a parameter out means. */
static const char *const null_means[] = {
	[PARAMETER_RelationshipName] = "the name of the group's directory",
	[PARAMETER_SyncType] = "an error, as it is required",
	[PARAMETER_Mode] = "Asynchronous",
	[PARAMETER_SourceGroup] = "SourceElement is the source",
	[PARAMETER_SourceElement] = "SourceGroup is the source",
	[PARAMETER_SourceAccessPoint] = "no access information is needed",
	[PARAMETER_TargetGroup] = "this group, which has no members",
	[PARAMETER_TargetElementCount] = "1",
	[PARAMETER_TargetAccessPoint] = "no access information is needed",
	[PARAMETER_Consistency] = "Sequential Consistency, or No Consistency where a "
				  "member is shared and nothing keeps others from "
				  "writing it",
	[PARAMETER_ReplicationSettingData] = "the default of the SyncType",
	[PARAMETER_Job] = "(output: job)",
	[PARAMETER_Synchronization] = "(output: pairs/ and the group's properties)",
	[PARAMETER_TargetSettingGoal] = "thin, writable",
	[PARAMETER_TargetPool] = "default_pool of the configuration",
	[PARAMETER_WaitForCopyState] = "the call returns at once",
};
_Static_assert(sizeof(null_means) / sizeof(null_means[0]) == N_PARAMETERS,
	       "a phrase for each parameter");

enum {
	FIRST_VENDOR_VALUE = 32768,
	MAX_VALUES = 32, /* of a map that are valid: the bits of .valid */
	MAX_COUNT = 256, /* of TargetElementCount: each has open files while it copies */
};

_Static_assert(sizeof("SourceElement=") - 1 + SPEC_SOURCE_MAX_LEN == INIFILE_MAX_LINE,
	       "a canonical SourceElement fills a line");

struct check {
	const struct spec_item *given[N_PARAMETERS]; /* NULL: not in the text */
	const struct spec_item *setting[SETTING_N_PROPERTIES];
	const struct spec_item *goal[SETTING_N_PROPERTIES];
	struct spec spec;
	bool is_unsupported; /* unsupported is set */
	struct outcome unsupported;
	struct outcome *outcome;
};

#define REFUSE(check, ...) \
	outcome_fail((check)->outcome, CIM_RETURN_INVALID_PARAMETER, 0, __VA_ARGS__)

#define NOTE_UNSUPPORTED(check, ...)                                                     \
	do {                                                                             \
		if (!(check)->is_unsupported)                                            \
			outcome_fail(&(check)->unsupported, CIM_RETURN_NOT_SUPPORTED, 0, \
				     __VA_ARGS__);                                       \
		(check)->is_unsupported = true;                                          \
	} while (0)

static void *field(const struct spec *spec, int index)
{
	return (char *)spec + parameters[index].offset;
}

/* Unknown and repeated names. */

static int find_parameter(const char *name)
{
	for (int i = 0; i < N_PARAMETERS; i++)
		if (!strcmp(spec_parameters[i], name))
			return i;
	return -1;
}

static int take(struct check *check, const struct spec_item **place,
		const struct spec_item *item)
{
	if (*place && item->line)
		return REFUSE(check,
			      "%s is given twice, in line %u and line %u; keep one",
			      item->name, (*place)->line, item->line);
	if (*place)
		return REFUSE(check, "%s is given twice; keep one", item->name);
	*place = item;
	return 0;
}

static int take_parameter(struct check *check, const struct spec_item *item)
{
	int index = find_parameter(item->name);

	if (index < 0 && setting_find(item->name) >= 0)
		return REFUSE(check,
			      "%s is a property, not a parameter; give it in the section "
			      "[ReplicationSettingData] of an INI text",
			      item->name);
	if (index < 0)
		return REFUSE(check, "unknown parameter %s; %s", name_quote(item->name).s,
			      name_hint(item->name, spec_parameters, N_PARAMETERS).s);
	if (parameters[index].kind == KIND_OUTPUT)
		return REFUSE(
			check,
			"%s is an output of the call; leave it out and read it in the "
			"group's directory",
			item->name);
	return take(check, &check->given[index], item);
}

static int take_property(struct check *check, const struct spec_item *item)
{
	bool is_goal = item->section == SPEC_GOAL;
	const char *const *names = is_goal ? setting_goal_names : setting_names;
	size_t n = is_goal ? setting_n_goal_names : SETTING_N_PROPERTIES;
	int index = setting_find(item->name);
	char error[OUTCOME_SENTENCE_MAX / 2];

	for (size_t i = 0; index >= 0 && i < n; i++)
		if (!strcmp(names[i], item->name))
			return take(check,
				    is_goal ? &check->goal[index] :
					      &check->setting[index],
				    item);
	setting_explain_unknown(item->name, names, n, error, sizeof(error));
	return REFUSE(check, "[%s]: %s", spec_section_name(item->section), error);
}

static int take_items(struct check *check, const struct spec_text *text)
{
	int r = 0;

	for (size_t i = 0; !r && i < text->n_items; i++) {
		const struct spec_item *item = &text->items[i];

		if (item->section == SPEC_PARAMETERS)
			r = take_parameter(check, item);
		else
			r = take_property(check, item);
		if (!r && !*item->value)
			r = REFUSE(check, "%s has no value; leave it out for NULL",
				   item->name);
		/* A one-line text has lost its own. */
		if (!r && *item->value == '"')
			r = REFUSE(
				check,
				"line %u: %s=%s: quotes have no meaning in an INI text; "
				"leave them out",
				item->line, item->name, name_quote(item->value).s);
	}
	return r;
}

/* Values. */

static size_t value_names(const struct cim_map *map, uint32_t set,
			  const char *names[static MAX_VALUES])
{
	size_t n = 0;

	for (size_t i = 0; i < map->n_values; i++)
		if (map->values[i].number < MAX_VALUES &&
		    set & BIT(map->values[i].number))
			names[n++] = map->values[i].name;
	return n;
}

static int check_enum(struct check *check, int index, const char *value)
{
	const struct parameter *p = &parameters[index];
	const char *names[MAX_VALUES];
	unsigned number = 0;
	size_t n;
	int r = cim_parse(p->map, value, &number);

	if (!r && number >= FIRST_VENDOR_VALUE) {
		n = value_names(p->map, p->built, names);
		NOTE_UNSUPPORTED(check,
				 "%s: %u is a vendor's value, which LunFS does not "
				 "have; %s",
				 spec_parameters[index], number,
				 name_hint("", names, n).s);
		return 0;
	}
	if (r < 0 || number >= MAX_VALUES || !(p->valid & BIT(number))) {
		n = value_names(p->map, p->valid, names);
		return REFUSE(check, "%s: %s is not one of its values; %s",
			      spec_parameters[index], name_quote(value).s,
			      name_hint(value, names, n).s);
	}
	if (!(p->built & BIT(number))) {
		n = value_names(p->map, p->built, names);
		NOTE_UNSUPPORTED(check,
				 "%s: %s is not supported by this version of LunFS; %s",
				 spec_parameters[index], cim_name(p->map, number),
				 name_hint("", names, n).s);
	}
	*(unsigned *)field(&check->spec, index) = number;
	return 0;
}

static int check_name(struct check *check, int index, const char *value, size_t size)
{
	int r = name_check(value, size - 1);

	if (r == -ENAMETOOLONG)
		return outcome_fail(
			check->outcome, CIM_RETURN_INVALID_PARAMETER, ENAMETOOLONG,
			"%s: %s has %zu bytes; %zu is the limit", spec_parameters[index],
			name_quote(value).s, strlen(value), size - 1);
	if (r < 0)
		return REFUSE(check,
			      "%s: %s is no name; use A-Z a-z 0-9 . _ - and do not begin "
			      "with . or -",
			      spec_parameters[index], name_quote(value).s);
	return 0;
}

/* A target and a LUN behind an access point. */
static int check_remote(struct check *check, int index, const char *value)
{
	const char *slash = strrchr(value, '/');
	CLEANUP_FREE char *target = strndup(value, (size_t)(slash - value));
	unsigned lun;

	if (!target)
		return outcome_fail(check->outcome, CIM_RETURN_FAILED, ENOMEM,
				    "spec: out of memory");
	if (!check->given[PARAMETER_SourceAccessPoint])
		return REFUSE(
			check,
			"%s: %s is not the name of an element; a target and a LUN need "
			"SourceAccessPoint beside them",
			spec_parameters[index], name_quote(value).s);
	if (strlen(value) > SPEC_SOURCE_MAX_LEN)
		return outcome_fail(check->outcome, CIM_RETURN_INVALID_PARAMETER,
				    ENAMETOOLONG, "%s: %s has %zu bytes; %d is the limit",
				    spec_parameters[index], name_quote(value).s,
				    strlen(value), SPEC_SOURCE_MAX_LEN);
	if (iscsiname_check(target) < 0 || iscsiname_lun(slash + 1, &lun) < 0)
		return REFUSE(
			check,
			"%s: %s is not <iqn>/<lun> with an iSCSI name and a LUN from 0 "
			"to %d",
			spec_parameters[index], name_quote(value).s, ISCSINAME_MAX_LUN);
	snprintf(field(&check->spec, index), parameters[index].size, "%s/%u", target,
		 lun);
	return 0;
}

static int check_count(struct check *check, int index, const char *value)
{
	uint64_t count;

	if (value_number(value, &count) < 0 || !count)
		return REFUSE(check,
			      "%s: %s is not a number of elements; write 1 or more",
			      spec_parameters[index], name_quote(value).s);
	if (count > MAX_COUNT)
		NOTE_UNSUPPORTED(check,
				 "%s: %" PRIu64
				 " copies at once are not supported; write 1 to %d",
				 spec_parameters[index], count, MAX_COUNT);
	*(uint64_t *)field(&check->spec, index) = count;
	return 0;
}

static int check_text(struct check *check, int index, const char *value)
{
	char **text = field(&check->spec, index);
	int r = check_name(check, index, value, NAME_MAX_LEN + 1);

	if (r < 0)
		return r;
	*text = strdup(value);
	return *text ? 0 :
		       outcome_fail(check->outcome, CIM_RETURN_FAILED, ENOMEM,
				    "spec: out of memory");
}

static int check_value(struct check *check, int index, const char *value)
{
	const struct parameter *p = &parameters[index];
	size_t size = p->size;
	int r;

	switch (p->kind) {
	case KIND_ENUM:
		return check_enum(check, index, value);
	case KIND_COUNT:
		return check_count(check, index, value);
	case KIND_TEXT:
		return check_text(check, index, value);
	case KIND_ELEMENT:
		if (strchr(value, '/'))
			return check_remote(check, index, value);
		size = NAME_ELEMENT_MAX_LEN + 1;
		break;
	case KIND_NAME:
	case KIND_OUTPUT:
		break;
	}
	r = check_name(check, index, value, size);
	if (!r)
		memcpy(field(&check->spec, index), value, strlen(value) + 1);
	return r;
}

static int check_values(struct check *check)
{
	int r = 0;

	for (int i = 0; !r && i < N_PARAMETERS; i++) {
		if (!check->given[i])
			continue;
		r = check_value(check, i, check->given[i]->value);
		if (!r && parameters[i].is_later)
			NOTE_UNSUPPORTED(check,
					 "%s=%s: the parameter is not supported by this "
					 "version of LunFS; leave it out",
					 spec_parameters[i], check->given[i]->value);
	}
	return r;
}

/* A section as `Name=value` lines in the order of the class; NULL if it has
 * none. */
static int check_section(struct check *check, enum spec_section section,
			 const struct spec_item *const items[], char **ret_text)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	char value[SETTING_VALUE_SIZE], error[OUTCOME_SENTENCE_MAX / 2];

	for (int i = 0; i < SETTING_N_PROPERTIES; i++) {
		int r;

		if (!items[i])
			continue;
		r = setting_check(i, items[i]->value, value, error, sizeof(error));
		if (!r) {
			strbuf_addf(&b, "%s=%s\n", setting_names[i], value);
			r = setting_check_supported(i, value, check->spec.sync_type,
						    error, sizeof(error));
		}
		if (r == -EOPNOTSUPP)
			NOTE_UNSUPPORTED(check, "[%s]: %s", spec_section_name(section),
					 error);
		else if (r < 0)
			return REFUSE(check, "[%s]: %s", spec_section_name(section),
				      error);
	}
	if (b.failed)
		return outcome_fail(check->outcome, CIM_RETURN_FAILED, ENOMEM,
				    "spec: out of memory");
	if (b.len)
		*ret_text = strbuf_steal(&b);
	return 0;
}

/* Exclusions. */

static int check_source(struct check *check)
{
	const struct spec_item *const *given = check->given;

	if (given[PARAMETER_SourceGroup] && given[PARAMETER_SourceElement])
		return REFUSE(
			check,
			"SourceGroup=%s and SourceElement=%s exclude each other; give "
			"one of them",
			given[PARAMETER_SourceGroup]->value,
			name_quote(given[PARAMETER_SourceElement]->value).s);
	if (!given[PARAMETER_SourceGroup] && !given[PARAMETER_SourceElement])
		return REFUSE(
			check,
			"SourceGroup and SourceElement are both missing; give one of "
			"them");
	return 0;
}

static int check_target(struct check *check)
{
	const struct spec_item *const *given = check->given;
	const struct spec_item *count = given[PARAMETER_TargetElementCount];

	if (count && given[PARAMETER_SourceGroup])
		return REFUSE(
			check,
			"TargetElementCount=%s excludes SourceGroup; it counts copies of "
			"one SourceElement, leave it out",
			count->value);
	if (count && given[PARAMETER_TargetGroup])
		return REFUSE(
			check,
			"TargetElementCount=%s excludes TargetGroup; give one of them",
			count->value);
	if (given[PARAMETER_TargetGroup] &&
	    !strcmp(check->spec.target_group, check->spec.source_group))
		return REFUSE(
			check,
			"TargetGroup=%s is the source group itself; name another group",
			check->spec.target_group);
	return 0;
}

static int check_exclusions(struct check *check)
{
	int r;

	if (!check->given[PARAMETER_SyncType])
		return REFUSE(check, "SyncType is missing; add SyncType=Clone");
	r = check_source(check);
	if (!r)
		r = check_target(check);
	if (r < 0)
		return r;
	if (check->given[PARAMETER_ReplicationSettingData] &&
	    check->spec.setting_properties)
		return REFUSE(
			check,
			"ReplicationSettingData=%s and the section "
			"[ReplicationSettingData] exclude each other; give one of them",
			check->spec.setting);
	return 0;
}

static int check_sections(struct check *check)
{
	char *goal = NULL;
	int r = check_section(check, SPEC_SETTING, check->setting,
			      &check->spec.setting_properties);

	if (!r)
		r = check_section(check, SPEC_GOAL, check->goal, &goal);
	if (r < 0 || !goal)
		return r;
	if (check->spec.target_setting_goal)
		r = REFUSE(
			check,
			"TargetSettingGoal=%s and the section [TargetSettingGoal] exclude "
			"each other; give one of them",
			check->spec.target_setting_goal);
	else
		check->spec.target_setting_goal = move_ptr(goal);
	free(goal);
	return r;
}

static int check_all(struct check *check, const struct spec_text *text)
{
	int r = take_items(check, text);

	if (!r)
		r = check_values(check);
	if (!r)
		r = check_sections(check);
	if (!r)
		r = check_exclusions(check);
	if (!r && check->is_unsupported) {
		*check->outcome = check->unsupported;
		r = -check->unsupported.error;
	}
	return r;
}

int spec_parse(const char *text, size_t len, struct spec *spec, struct outcome *outcome)
{
	struct check check = { .outcome = outcome };
	struct spec_text items = { 0 };
	int r;

	*spec = (struct spec){ 0 };
	r = spec_text_parse(text, len, &items, outcome);
	if (!r)
		r = check_all(&check, &items);
	spec_text_done(&items);
	if (r < 0) {
		spec_done(&check.spec);
		return r;
	}
	*spec = check.spec;
	outcome_ok(outcome);
	return 0;
}

bool spec_supports(const char *parameter, uint64_t value)
{
	int index = find_parameter(parameter);
	const struct parameter *p = &parameters[index];

	if (index < 0 || p->is_later || p->kind == KIND_OUTPUT)
		return false;
	if (p->kind == KIND_ENUM)
		return value < MAX_VALUES && (p->built & p->valid & BIT(value));
	return p->kind != KIND_COUNT || value <= MAX_COUNT;
}

void spec_about(size_t index, struct spec_about *ret_about)
{
	const struct parameter *p = &parameters[index];
	bool is_name = p->kind == KIND_NAME || p->kind == KIND_ELEMENT;

	*ret_about = (struct spec_about){
		.name = spec_parameters[index],
		.map = p->map,
		.valid = p->valid,
		.built = p->built & p->valid,
		.max_len = p->kind == KIND_ELEMENT ? NAME_ELEMENT_MAX_LEN :
			   is_name		   ? p->size - 1 :
			   p->kind == KIND_TEXT	   ? NAME_MAX_LEN :
						     0,
		.max_count = p->kind == KIND_COUNT ? MAX_COUNT : 0,
		.is_element = p->kind == KIND_ELEMENT,
		.is_output = p->kind == KIND_OUTPUT,
		.is_later = p->is_later,
		.null = null_means[index],
	};
}

bool spec_source_lun(const struct spec *spec,
		     char ret_target[static ISCSINAME_MAX_LEN + 1], unsigned *ret_lun)
{
	const char *slash = strrchr(spec->source_element, '/');

	if (!slash)
		return false;
	snprintf(ret_target, ISCSINAME_MAX_LEN + 1, "%.*s",
		 (int)(slash - spec->source_element), spec->source_element);
	return iscsiname_lun(slash + 1, ret_lun) >= 0;
}

void spec_done(struct spec *spec)
{
	free(spec->setting_properties);
	free(spec->target_setting_goal);
	*spec = (struct spec){ 0 };
}

static void format_enum(struct strbuf *b, int index, unsigned number)
{
	const char *name = cim_name(parameters[index].map, number);

	if (!number)
		return;
	strbuf_addf(b, "%s=", spec_parameters[index]);
	if (*name)
		strbuf_adds(b, name);
	else
		strbuf_addf(b, "%u", number);
	strbuf_addc(b, '\n');
}

/* A goal is a name, or the lines of its section. */
static bool is_section(const char *text)
{
	return text && strchr(text, '=');
}

static void format_text(struct strbuf *b, int index, const char *text)
{
	if (text && *text)
		strbuf_addf(b, "%s=%s\n", spec_parameters[index], text);
}

static void format_parameter(const struct spec *spec, int index, struct strbuf *b)
{
	const void *value = field(spec, index);
	uint64_t count;

	switch (parameters[index].kind) {
	case KIND_ENUM:
		format_enum(b, index, *(const unsigned *)value);
		break;
	case KIND_NAME:
	case KIND_ELEMENT:
		format_text(b, index, value);
		break;
	case KIND_TEXT:
		if (!is_section(*(char *const *)value))
			format_text(b, index, *(char *const *)value);
		break;
	case KIND_COUNT:
		count = *(const uint64_t *)value;
		if (count)
			strbuf_addf(b, "%s=%" PRIu64 "\n", spec_parameters[index], count);
		break;
	case KIND_OUTPUT:
		break;
	}
}

void spec_format(const struct spec *spec, struct strbuf *b)
{
	for (int i = 0; i < N_PARAMETERS; i++)
		format_parameter(spec, i, b);
	if (is_section(spec->setting_properties))
		strbuf_addf(b, "[%s]\n%s", spec_section_name(SPEC_SETTING),
			    spec->setting_properties);
	if (is_section(spec->target_setting_goal))
		strbuf_addf(b, "[%s]\n%s", spec_section_name(SPEC_GOAL),
			    spec->target_setting_goal);
	strbuf_adds(b, "[Run]\n");
}
