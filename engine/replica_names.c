/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * CreateGroupReplica: names.  A relationship's is its own among all; the images of it are
 * `<RelationshipName>_<n>`, n from 1 in the order of the members.  From its check to its
 * end a call claims them: nothing else is made under one of these names, so that a call
 * that was accepted does not fail by its names in the middle.
 */

#include "engine/replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void replica_target_name(const struct replica_call *call, size_t i,
			 char ret_name[static REPLICA_TARGET_NAME_SIZE])
{
	snprintf(ret_name, REPLICA_TARGET_NAME_SIZE, "%s_%zu",
		 call->spec.relationship_name, i + 1);
}

static const char *name_of(const struct group *g)
{
	return g->rel ? g->rel->row.name : g->call ? g->call->spec.relationship_name : "";
}

static void find_same_name(void *thing, void *opaque)
{
	const struct group *g = thing;
	struct replica_call *call = opaque;

	if (g != call->group && !strcmp(name_of(g), call->spec.relationship_name))
		call->same_name = g;
}

static int check_relationship(struct replica_call *call)
{
	const struct group *g;

	index_each(&call->engine->by_id[ENGINE_GROUP], find_same_name, call);
	g = call->same_name;
	if (!g)
		return 0;
	return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
			    "RelationshipName: group \"%s\" %s \"%s\" already; give "
			    "another RelationshipName, or end that one "
			    "(groups/%s/control)",
			    g->obj.name,
			    g->rel ? "has a relationship" : "is making a relationship",
			    call->spec.relationship_name, g->obj.name);
}

/* There is an element of the name that the i-th image is to have. */
static int refuse_image(struct replica_call *call, size_t i, const struct element *el)
{
	char remedy[96] = "";

	if (!el->configured && !element_in_relationship(el))
		snprintf(remedy, sizeof(remedy),
			 ", or remove that one (rmdir elements/%s)", el->obj.name);
	return outcome_fail(&call->outcome, CIM_RETURN_IN_USE, 0,
			    "RelationshipName: image %zu of \"%s\" would be \"%s\", and "
			    "there is %s \"%s\" already; give another RelationshipName%s",
			    i + 1, call->spec.relationship_name, el->obj.name,
			    el->configured		       ? "a configured element" :
			    el->origin == STORE_ORIGIN_REPLICA ? "an image" :
								 "an element",
			    el->obj.name, remedy);
}

static int check_image(struct replica_call *call, size_t i)
{
	char name[REPLICA_TARGET_NAME_SIZE];
	const struct element *el;

	replica_target_name(call, i, name);
	if (strlen(name) > NAME_ELEMENT_MAX_LEN)
		return outcome_fail(&call->outcome, CIM_RETURN_INVALID_PARAMETER,
				    ENAMETOOLONG,
				    "RelationshipName: \"%s\" makes image names longer "
				    "than %d bytes; give a shorter one",
				    call->spec.relationship_name, NAME_ELEMENT_MAX_LEN);
	if (call->new_source && !strcmp(name, call->new_source->obj.name))
		return outcome_fail(
			&call->outcome, CIM_RETURN_IN_USE, 0,
			"RelationshipName: image %zu of \"%s\" would be "
			"\"%s\", and so would be the element of SourceElement "
			"%.100s; give another RelationshipName",
			i + 1, call->spec.relationship_name, name,
			call->spec.source_element);
	el = object_by_name(call->engine, ENGINE_ELEMENT, name);
	return el ? refuse_image(call, i, el) : 0;
}

int replica_check_names(struct replica_call *call)
{
	int r;

	if (!*call->spec.relationship_name)
		memcpy(call->spec.relationship_name, call->group->obj.name,
		       sizeof(call->spec.relationship_name));
	r = check_relationship(call);
	for (size_t i = 0; i < call->n && !call->targets && !r; i++)
		r = check_image(call, i);
	return r;
}

static bool is_target_name(const struct replica_call *call, const char *name)
{
	const char *relationship = call->spec.relationship_name;
	size_t len = strlen(relationship);
	char own[REPLICA_TARGET_NAME_SIZE];
	unsigned long n;

	if (call->targets || strncmp(name, relationship, len) != 0 || name[len] != '_')
		return false;
	n = strtoul(name + len + 1, NULL, 10);
	if (!n || n > call->n)
		return false;
	replica_target_name(call, n - 1, own);
	return !strcmp(name, own);
}

const char *replica_claims_name(const struct engine *e, const char *name)
{
	const struct replica_call *call;

	TAILQ_FOREACH(call, &e->claims, claim_link)
		if (is_target_name(call, name))
			return call->group->obj.name;
	return NULL;
}
