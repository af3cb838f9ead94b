/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/iscsiname.h"
#include "conf/value.h"

/*
 * A text that is refused may hold a password, in a place where none belongs.
 * So no message here repeats a part of it that could be one.
 */

_Static_assert(sizeof(((struct config_url *)0)->portal) == ISCSINAME_PORTAL_SIZE,
	       "portal");
_Static_assert(sizeof(((struct config_url *)0)->target) == ISCSINAME_MAX_LEN + 1,
	       "target");

#define REFUSE(...) (snprintf(error, error_size, __VA_ARGS__), -EINVAL)

static int parse_target(const char *target, struct config_url *url, char *error,
			size_t error_size)
{
	int r = iscsiname_check(target);

	if (r == -ENAMETOOLONG)
		return REFUSE("the target's name is longer than %d bytes",
			      ISCSINAME_MAX_LEN);
	if (r < 0)
		return REFUSE(
			"the target's name is no iSCSI name; write iqn.2026-01.org.example:"
			"disk, eui. with 16 or naa. with 16 or 32 hex digits");
	memcpy(url->target, target, strlen(target) + 1);
	return 0;
}

static int parse_iscsi(const char *text, struct config_url *url, char *error,
		       size_t error_size)
{
	size_t portal_len = strcspn(text, "/");
	char portal[ISCSINAME_PORTAL_SIZE], target[ISCSINAME_MAX_LEN + 2];
	const char *slash, *lun;
	size_t target_len;

	if (strchr(text, '@') || (*text != '[' && memchr(text, '%', portal_len)))
		return REFUSE(
			"a URL holds no user or password; configure an [access_point] "
			"with user and password_file");
	if (strchr(text, '?'))
		return REFUSE("a URL holds no options after a ?; leave them out");
	slash = strchr(text, '/');
	lun = strrchr(text, '/');
	if (!slash || slash == lun)
		return REFUSE("the URL is not iscsi://PORTAL/IQN/LUN");
	if (portal_len >= sizeof(portal))
		return REFUSE("the URL's portal is too long");
	memcpy(portal, text, portal_len);
	portal[portal_len] = '\0';
	if (iscsiname_portal(portal, url->portal) < 0)
		return REFUSE("the URL's portal is none; write host, host:port or "
			      "[v6]:port");
	target_len = (size_t)(lun - slash) - 1;
	if (target_len >= sizeof(target))
		target_len = sizeof(target) - 1;
	memcpy(target, slash + 1, target_len);
	target[target_len] = '\0';
	if (iscsiname_lun(lun + 1, &url->lun) < 0)
		return REFUSE("the URL's LUN is no number from 0 to %d",
			      ISCSINAME_MAX_LUN);
	url->scheme = CONFIG_URL_ISCSI;
	return parse_target(target, url, error, error_size);
}

static int parse_file(const char *text, struct config_url *url, char *error,
		      size_t error_size)
{
	size_t len = 0;

	if (strncmp(text, "///", 3))
		return REFUSE(
			"the path is not absolute, or a host stands before it; write "
			"file:///PATH");
	for (text += 2; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return REFUSE("the path has a control character");
		if (*text == '/' && len && url->path[len - 1] == '/')
			continue;
		if (len == sizeof(url->path) - 1)
			return REFUSE("the path is longer than %zu bytes",
				      sizeof(url->path) - 1);
		url->path[len++] = *text;
	}
	if (url->path[len - 1] == '/')
		return REFUSE("the path ends with a /; name a file or a block device");
	url->scheme = CONFIG_URL_FILE;
	return 0;
}

static int parse_null(const char *text, struct config_url *url, char *error,
		      size_t error_size)
{
	if (value_size(text, &url->size) < 0)
		return REFUSE("the size is none; write null:SIZE");
	url->scheme = CONFIG_URL_NULL;
	return 0;
}

static int parse_fault(const char *text, struct config_url *url, char *error,
		       size_t error_size)
{
	if (!strchr(text, ':'))
		return REFUSE("write fault:RULES:URL");
	if (strlen(text) >= sizeof(url->path))
		return REFUSE("the URL is too long");
	memcpy(url->path, text, strlen(text) + 1);
	url->scheme = CONFIG_URL_FAULT;
	return 0;
}

static int parse_rbd(const char *text, struct config_url *url, char *error,
		     size_t error_size)
{
	(void)text;
	(void)url;
	return REFUSE("rbd is not built in; use iscsi://PORTAL/IQN/LUN or file:///PATH");
}

static const struct scheme {
	const char *prefix;
	bool is_for_tests;
	int (*parse)(const char *text, struct config_url *url, char *error,
		     size_t error_size);
} schemes[] = {
	{ "iscsi://", false, parse_iscsi }, { "file:", false, parse_file },
	{ "rbd:", false, parse_rbd },	    { "null:", true, parse_null },
	{ "fault:", true, parse_fault },
};

int config_parse_url(const char *text, struct config_url *ret_url, char *error,
		     size_t error_size)
{
	const char *tests = getenv("LUNFS_TEST_BACKENDS");
	bool is_test = tests && !strcmp(tests, "1");

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		const struct scheme *scheme = &schemes[i];
		size_t len = strlen(scheme->prefix);
		struct config_url url = { 0 };
		int r;

		if (strncmp(text, scheme->prefix, len) ||
		    (scheme->is_for_tests && !is_test))
			continue;
		r = scheme->parse(text + len, &url, error, error_size);
		if (!r)
			*ret_url = url;
		return r;
	}
	return REFUSE("this is no URL of an element; write iscsi://PORTAL/IQN/LUN or "
		      "file:///PATH");
}

int config_format_url(const struct config_url *url, char *buf, size_t size)
{
	int n = 0;

	switch (url->scheme) {
	case CONFIG_URL_ISCSI:
		n = snprintf(buf, size, "iscsi://%s/%s/%u", url->portal, url->target,
			     url->lun);
		break;
	case CONFIG_URL_FILE:
		n = snprintf(buf, size, "file://%s", url->path);
		break;
	case CONFIG_URL_NULL:
		n = snprintf(buf, size, "null:%" PRIu64, url->size);
		break;
	case CONFIG_URL_FAULT:
		n = snprintf(buf, size, "fault:%s", url->path);
		break;
	}
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}
