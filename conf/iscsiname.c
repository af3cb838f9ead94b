/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/iscsiname.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "conf/value.h"

#define DIGITS "0123456789"
#define HEX DIGITS "abcdefABCDEF"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* `yyyy-mm.` and a naming authority after `iqn.`. */
static bool is_iqn_rest(const char *s)
{
	if (strspn(s, DIGITS) != 4 || s[4] != '-' || strspn(s + 5, DIGITS) != 2 ||
	    s[7] != '.' || !s[8] || s[8] == ':')
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || strchr("/@?%\"\\\x7f", *s))
			return false;
	return true;
}

int iscsiname_check(const char *name)
{
	size_t len = strlen(name);
	bool is_ok = false;

	if (len > ISCSINAME_MAX_LEN)
		return -ENAMETOOLONG;
	if (!strncmp(name, "iqn.", 4))
		is_ok = is_iqn_rest(name + 4);
	else if (!strncmp(name, "eui.", 4))
		is_ok = len == 4 + 16 && strspn(name + 4, HEX) == 16;
	else if (!strncmp(name, "naa.", 4))
		is_ok = (len == 4 + 16 || len == 4 + 32) &&
			strspn(name + 4, HEX) == len - 4;
	return is_ok ? 0 : -EINVAL;
}

/* An IPv6 address, a zone (`%eth0`) included. */
static bool is_v6(const char *s, size_t len)
{
	char address[INET6_ADDRSTRLEN];
	size_t address_len = strcspn(s, "%]");
	struct in6_addr ignored;

	if (address_len >= sizeof(address))
		return false;
	memcpy(address, s, address_len);
	address[address_len] = '\0';
	if (inet_pton(AF_INET6, address, &ignored) != 1)
		return false;
	if (address_len == len)
		return true;
	return len - address_len > 1 &&
	       strspn(s + address_len + 1, LETTERS DIGITS ".-_") == len - address_len - 1;
}

static bool is_host(const char *s, size_t len)
{
	return len && len <= 253 && *s != '-' && *s != '.' &&
	       strspn(s, LETTERS DIGITS ".-_") >= len;
}

int iscsiname_portal(const char *text, char ret_portal[static ISCSINAME_PORTAL_SIZE])
{
	bool is_bracketed = *text == '[';
	const char *host = text + is_bracketed;
	size_t host_len = strcspn(host, is_bracketed ? "]" : ":");
	const char *rest = host + host_len;
	uint64_t port = 3260;

	if (is_bracketed ? *rest++ != ']' || !is_v6(host, host_len) :
			   !is_host(host, host_len))
		return -EINVAL;
	if (*rest && (*rest != ':' || value_number(rest + 1, &port) < 0))
		return -EINVAL;
	if (!port || port > UINT16_MAX || host_len > 255)
		return -EINVAL;
	snprintf(ret_portal, ISCSINAME_PORTAL_SIZE,
		 is_bracketed ? "[%.*s]:%u" : "%.*s:%u", (int)host_len, host,
		 (unsigned)port);
	return 0;
}

int iscsiname_lun(const char *text, unsigned *ret_lun)
{
	uint64_t lun;

	if (value_number(text, &lun) < 0 || lun > ISCSINAME_MAX_LUN)
		return -EINVAL;
	*ret_lun = (unsigned)lun;
	return 0;
}

enum { HASH_DIGITS = 12 };

/* FNV-1a. */
static uint64_t hash_of(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return h;
}

void iscsiname_element(const char *target, unsigned lun,
		       char ret_name[static NAME_ELEMENT_MAX_LEN + 1])
{
	bool is_plain = strspn(target, LETTERS DIGITS ".-:") == strlen(target);
	char text[ISCSINAME_MAX_LEN + 1], end[8];
	size_t len, room;

	len = (size_t)snprintf(text, sizeof(text), "%.*s", ISCSINAME_MAX_LEN, target);
	for (char *c = text; *c; c++)
		if (!strchr(LETTERS DIGITS ".-", *c))
			*c = '_';
	room = NAME_ELEMENT_MAX_LEN -
	       (size_t)snprintf(end, sizeof(end), "_%u", lun % (ISCSINAME_MAX_LUN + 1));
	if (is_plain && len <= room) {
		snprintf(ret_name, NAME_ELEMENT_MAX_LEN + 1, "%.*s%s", (int)room, text,
			 end);
		return;
	}
	room -= HASH_DIGITS + 1;
	snprintf(ret_name, NAME_ELEMENT_MAX_LEN + 1, "%0*" PRIx64 "_%.*s%s", HASH_DIGITS,
		 hash_of(target) >> (64 - 4 * HASH_DIGITS), (int)room,
		 text + (len > room ? len - room : 0), end);
}
