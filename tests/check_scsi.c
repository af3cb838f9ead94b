/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/scsi.h"

#include <errno.h>

#include "tests/unit.h"

/* Commands: bytes by SBC-3 and SPC-4. */

static void ck_cdb(const struct scsi_command *c, const uint8_t *cdb, int len)
{
	ck_assert_int_eq(c->cdb_len, len);
	ck_assert_mem_eq(c->cdb, cdb, (size_t)len);
}

#define CK_CDB(c, ...)                                            \
	do {                                                      \
		static const uint8_t wanted_[] = { __VA_ARGS__ }; \
                                                                  \
		ck_cdb(c, wanted_, sizeof(wanted_));              \
	} while (0)

START_TEST(commands_have_the_bytes_of_the_standard)
{
	struct scsi_command c;
	uint8_t param[SCSI_UNMAP_PARAM_LEN];

	scsi_make_test_unit_ready(&c);
	CK_CDB(&c, 0, 0, 0, 0, 0, 0);
	ck_assert_int_eq(c.direction, SCSI_NO_DATA);
	scsi_make_inquiry(&c, SCSI_NO_VPD, 96);
	CK_CDB(&c, 0x12, 0, 0, 0, 96, 0);
	scsi_make_inquiry(&c, SCSI_VPD_IDENTIFICATION, 252);
	CK_CDB(&c, 0x12, 1, 0x83, 0, 252, 0);
	ck_assert_int_eq(c.direction, SCSI_DATA_IN);
	ck_assert_uint_eq(c.length, 252);
	scsi_make_read_capacity16(&c);
	CK_CDB(&c, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
	scsi_make_read16(&c, 0x123456789abcull, 0x800, 0x100000);
	CK_CDB(&c, 0x88, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0, 0, 8, 0, 0, 0);
	ck_assert_uint_eq(c.length, 0x100000);
	scsi_make_write16(&c, 1, 2, 1024, true);
	CK_CDB(&c, 0x8a, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0);
	ck_assert_int_eq(c.direction, SCSI_DATA_OUT);
	scsi_make_write_same16(&c, 3, 4, 512, true);
	CK_CDB(&c, 0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0);
	ck_assert_uint_eq(c.length, 512);
	scsi_make_unmap(&c, param, 0x1122334455667788ull, 0x99aabbcc);
	CK_CDB(&c, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0);
	ck_assert_mem_eq(param,
			 "\0\x16\0\x10\0\0\0\0\x11\x22\x33\x44\x55\x66\x77\x88"
			 "\x99\xaa\xbb\xcc\0\0\0\0",
			 24);
	scsi_make_synchronize_cache10(&c);
	CK_CDB(&c, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	scsi_make_get_lba_status(&c, 5, 24);
	CK_CDB(&c, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 24, 0, 0);
	scsi_make_mode_sense6(&c, SCSI_MODE_CACHING, 252);
	CK_CDB(&c, 0x1a, 0, 8, 0, 252, 0);
	scsi_make_pr_in(&c, SCSI_PR_READ_RESERVATION, 24);
	CK_CDB(&c, 0x5e, 1, 0, 0, 0, 0, 0, 0, 24, 0);
	scsi_make_pr_out(&c, param, SCSI_PR_REGISTER_AND_IGNORE,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 0, 0x1111, true);
	CK_CDB(&c, 0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0);
	ck_assert_mem_eq(param, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11\x11\0\0\0\0\x01\0\0\0",
			 24);
	scsi_make_pr_out(&c, param, SCSI_PR_RESERVE,
			 SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 0x1111, 0, false);
	CK_CDB(&c, 0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0);
	ck_assert_mem_eq(param, "\0\0\0\0\0\0\x11\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
			 24);
	scsi_make_pr_out(&c, param, SCSI_PR_PREEMPT, SCSI_PR_WRITE_EXCLUSIVE, 0x1111,
			 0x2222, false);
	CK_CDB(&c, 0x5f, 4, 1, 0, 0, 0, 0, 0, 24, 0);
	ck_assert_mem_eq(param,
			 "\0\0\0\0\0\0\x11\x11\0\0\0\0\0\0\x22\x22\0\0\0\0\0\0\0\0", 24);
}
END_TEST

/* Answers. */

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

static const char inquiry[] = "\x00\x00\x05\x02\x5b\x00\x00\x02"
			      "IET     VIRTUAL-\x01ISK    0001";

START_TEST(inquiry_gives_trimmed_printable_texts)
{
	struct scsi_identity id;

	ck_assert_int_eq(scsi_parse_inquiry(BYTES(inquiry), &id), 0);
	ck_assert_uint_eq(id.qualifier, 0);
	ck_assert_uint_eq(id.device_type, 0);
	ck_assert_str_eq(id.vendor, "IET");
	ck_assert_str_eq(id.product, "VIRTUAL-?ISK");
	ck_assert_str_eq(id.revision, "0001");
	ck_assert_int_eq(scsi_parse_inquiry((const uint8_t *)inquiry, 35, &id), -EPROTO);
	ck_assert_int_eq(scsi_parse_inquiry(NULL, 0, &id), -EPROTO);
}
END_TEST

START_TEST(pages_are_looked_up)
{
	static const char pages[] = "\x00\x00\x00\x03\x00\x80\xb0";

	ck_assert(scsi_has_page(BYTES(pages), 0xb0));
	ck_assert(!scsi_has_page(BYTES(pages), 0x83));
	ck_assert(!scsi_has_page((const uint8_t *)pages, 6, 0xb0));
	ck_assert(!scsi_has_page(NULL, 0, 0));
}
END_TEST

START_TEST(serials_are_trimmed_and_bounded)
{
	uint8_t page[300] = { 0, 0x80, 1, 0 };
	char serial[253];

	memset(page + 4, 'x', sizeof(page) - 4);
	ck_assert_int_eq(scsi_parse_serial(page, sizeof(page), serial), 0);
	ck_assert_uint_eq(strlen(serial), 252);
	ck_assert_int_eq(scsi_parse_serial(BYTES("\0\x80\0\x08  beaf11"), serial), 0);
	ck_assert_str_eq(serial, "beaf11");
	ck_assert_int_eq(scsi_parse_serial(BYTES("\0\x83\0\x08  beaf11"), serial),
			 -EPROTO);
	ck_assert_int_eq(scsi_parse_serial(BYTES("\0\x80"), serial), -EPROTO);
}
END_TEST

#define T10 "\x02\x01\x00\x0aIET     01"
#define EUI "\x01\x02\x00\x08\x11\x22\x33\x44\x55\x66\x77\x88"
#define NAA8 "\x01\x03\x00\x08\x5f\x00\x00\x00\x00\x00\x00\x01"
#define NAA16 "\x01\x03\x00\x10\x60\x00\x00\x00\x00\x00\x00\x00\x0e\0\0\0\0\1\0\1"
#define PORT_NAA "\x01\x13\x00\x08\x5f\x00\x00\x00\x00\x00\x00\x02"

START_TEST(the_best_designator_is_the_wwn)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *wwn;
	} rows[] = {
#define ROW(s, wwn) { s, sizeof(s) - 1, wwn }
		ROW(T10, "t10.IET     01"),
		ROW(T10 EUI, "eui.1122334455667788"),
		ROW(NAA8 T10 EUI, "naa.5f00000000000001"),
		ROW(NAA8 NAA16, "naa.60000000000000000e00000000010001"),
		ROW(NAA16 NAA8, "naa.60000000000000000e00000000010001"),
		ROW(PORT_NAA, ""),
		ROW(PORT_NAA EUI, "eui.1122334455667788"),
		ROW("\x01\x03\x00\x20\x60\x00", ""),
#undef ROW
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		uint8_t page[256] = { 0, 0x83, 0, (uint8_t)rows[i].len };
		char wwn[260] = "none";

		memcpy(page + 4, rows[i].bytes, rows[i].len);
		ck_assert_int_eq(scsi_parse_wwn(page, 4 + rows[i].len, wwn), 0);
		ROW_STR_EQ(rows[i].wwn, wwn, rows[i].wwn);
	}
}
END_TEST

START_TEST(limits_and_provisioning)
{
	uint8_t page[64] = { 0, 0xb0, 0, 60 };
	struct scsi_limits limits;
	struct scsi_provisioning p;

	page[10] = 0x20; /* 8192 blocks */
	page[14] = 0x02; /* 512 */
	page[20] = 0xff;
	page[42] = 0x01;
	ck_assert_int_eq(scsi_parse_limits(page, sizeof(page), &limits), 0);
	ck_assert_uint_eq(limits.max_transfer, 0x2000);
	ck_assert_uint_eq(limits.opt_transfer, 0x200);
	ck_assert_uint_eq(limits.max_unmap, 0xff000000);
	ck_assert_uint_eq(limits.max_write_same, 0x100);
	page[3] = 12; /* SBC-2 */
	ck_assert_int_eq(scsi_parse_limits(page, sizeof(page), &limits), 0);
	ck_assert_uint_eq(limits.max_unmap, 0);
	ck_assert_int_eq(scsi_parse_limits(page, 15, &limits), -EPROTO);

	ck_assert_int_eq(scsi_parse_provisioning(BYTES("\0\xb2\0\4\0\xe4\2\0"), &p), 0);
	ck_assert(p.unmap && p.write_same && p.zeros && !p.pattern);
	ck_assert_int_eq(scsi_parse_provisioning(BYTES("\0\xb2\0\4\0\x08\2\0"), &p), 0);
	ck_assert(!p.unmap && !p.write_same && !p.zeros && p.pattern);
	ck_assert_int_eq(scsi_parse_provisioning(BYTES("\0\xb2\0\4\0"), &p), -EPROTO);
}
END_TEST

START_TEST(capacities)
{
	uint8_t data[32] = { 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0 };
	struct scsi_capacity c;

	data[14] = 0xc0;
	ck_assert_int_eq(scsi_parse_capacity16(data, sizeof(data), &c), 0);
	ck_assert_uint_eq(c.blocks, 0x100000001ull);
	ck_assert_uint_eq(c.block_size, 512);
	ck_assert(c.thin && c.zeros);
	ck_assert_int_eq(scsi_parse_capacity16(data, 15, &c), -EPROTO);
	data[10] = 0; /* a block size of 0 */
	ck_assert_int_eq(scsi_parse_capacity16(data, sizeof(data), &c), -EPROTO);
	data[10] = 3; /* of 768 */
	ck_assert_int_eq(scsi_parse_capacity16(data, sizeof(data), &c), -EPROTO);
	data[10] = 2;
	memset(data, 0xff, 8); /* more than 2^63 bytes */
	ck_assert_int_eq(scsi_parse_capacity16(data, sizeof(data), &c), -EPROTO);

	ck_assert_int_eq(scsi_parse_capacity10(BYTES("\0\1\xff\xff\0\0\x10\0"), &c), 0);
	ck_assert_uint_eq(c.blocks, 0x20000);
	ck_assert_uint_eq(c.block_size, 4096);
	ck_assert_int_eq(scsi_parse_capacity10(BYTES("\xff\xff\xff\xff\0\0\2\0"), &c), 0);
	ck_assert_uint_eq(c.blocks, 0);
	ck_assert_int_eq(scsi_parse_capacity10(BYTES("\0\0\0\0\0\0\0"), &c), -EPROTO);
}
END_TEST

START_TEST(the_write_cache_is_found_behind_other_pages)
{
	struct scsi_caching c;

	/* header, block descriptor of 8, page 0x0a of 10, page 8 with WCE */
	static const char data[] = "\x2b\0\x90\x08"
				   "\0\0\0\0\0\0\2\0"
				   "\x0a\x0a\0\0\0\0\0\0\0\0\0\0"
				   "\x08\x12\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

	ck_assert_int_eq(scsi_parse_caching(BYTES(data), &c), 0);
	ck_assert(c.write_protect && c.fua && c.has_page && c.write_cache);
	ck_assert_int_eq(scsi_parse_caching(BYTES("\x13\0\0\0\x88\x12\0\0"), &c), 0);
	ck_assert(!c.write_protect && !c.fua && c.has_page && !c.write_cache);
	ck_assert_int_eq(scsi_parse_caching(BYTES("\x03\0\x80\0"), &c), 0);
	ck_assert(c.write_protect && !c.has_page);
	ck_assert_int_eq(scsi_parse_caching(BYTES("\x03\0\x80"), &c), -EPROTO);
}
END_TEST

START_TEST(lba_status_gives_all_descriptors)
{
	static const char data[] = "\0\0\0\x34\0\0\0\0"
				   "\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0"
				   "\0\0\0\0\0\0\x10\0\0\0\0\x08\x01\0\0\0"
				   "\0\0\0\0\0\0\x10\x08\0\0\0\x08\x02\0\0\0";
	struct scsi_lba_run runs[4];
	size_t n = 9;

	ck_assert_int_eq(scsi_parse_lba_status(BYTES(data), runs, 4, &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert(runs[0].mapped && runs[0].lba == 0 && runs[0].blocks == 0x1000);
	ck_assert(!runs[1].mapped && runs[1].lba == 0x1000 && runs[1].blocks == 8);
	ck_assert(!runs[2].mapped);
	ck_assert_int_eq(scsi_parse_lba_status(BYTES(data), runs, 2, &n), 0);
	ck_assert_uint_eq(n, 2);
	/* cut within a descriptor */
	ck_assert_int_eq(scsi_parse_lba_status((const uint8_t *)data, 39, runs, 4, &n),
			 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(scsi_parse_lba_status((const uint8_t *)data, 7, runs, 4, &n),
			 -EPROTO);
	ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(reservation_data)
{
	static const char keys[] =
		"\0\0\0\1\0\0\0\x10\0\0\0\0\0\0\x11\x11\0\0\0\0\0\0\x22\x22";
	static const char held[] =
		"\0\0\0\1\0\0\0\x10\0\0\0\0\0\0\x11\x11\0\0\0\0\0\x05\0\0";
	uint64_t key = 9;
	uint8_t type = 0;
	bool flag;

	ck_assert_int_eq(scsi_parse_keys(BYTES(keys), 0x1111, &key), 0);
	ck_assert_uint_eq(key, 0x2222);
	ck_assert_int_eq(scsi_parse_keys((const uint8_t *)keys, 16, 0x1111, &key), 0);
	ck_assert_uint_eq(key, 0);
	ck_assert_int_eq(scsi_parse_keys((const uint8_t *)keys, 7, 0x1111, &key),
			 -EPROTO);
	ck_assert(scsi_has_key(BYTES(keys), 0x2222));
	ck_assert(!scsi_has_key(BYTES(keys), 0x3333));
	ck_assert(!scsi_has_key((const uint8_t *)keys, 16, 0x2222));
	ck_assert(!scsi_has_key((const uint8_t *)keys, 7, 0x1111));

	ck_assert_int_eq(scsi_parse_reservation(BYTES(held), &flag, &key, &type), 0);
	ck_assert(flag && key == 0x1111 && type == 5);
	ck_assert_int_eq(
		scsi_parse_reservation(BYTES("\0\0\0\1\0\0\0\0"), &flag, &key, &type), 0);
	ck_assert(!flag);
	ck_assert_int_eq(
		scsi_parse_reservation((const uint8_t *)held, 21, &flag, &key, &type),
		-EPROTO);

	ck_assert_int_eq(
		scsi_parse_pr_capabilities(BYTES("\0\x08\x01\x80\0\0\0\0"), &flag), 0);
	ck_assert(flag);
	ck_assert_int_eq(scsi_parse_pr_capabilities(BYTES("\0\0\1\0\0\0\0\0"), &flag),
			 -EPROTO);
}
END_TEST

/* Failures. */

START_TEST(sense_to_errno)
{
	static const struct {
		const char *name;
		uint8_t key, asc, ascq;
		enum scsi_verdict verdict;
		int error;
	} rows[] = {
		{ "no sense", 0, 0, 0, SCSI_FAILED, -EIO },
		{ "recovered", 1, 0x17, 0, SCSI_DONE, 0 },
		{ "becoming ready", 2, 4, 1, SCSI_AGAIN_LATER, -EIO },
		{ "not ready, by hand", 2, 4, 3, SCSI_FAILED, -EIO },
		{ "medium", 3, 0x11, 0, SCSI_BAD_MEDIUM, -ENODATA },
		{ "hardware", 4, 0x44, 0, SCSI_BAD_MEDIUM, -EIO },
		{ "opcode", 5, 0x20, 0, SCSI_UNSUPPORTED, -EOPNOTSUPP },
		{ "field in CDB", 5, 0x24, 1, SCSI_UNSUPPORTED, -EOPNOTSUPP },
		{ "field in list", 5, 0x26, 0, SCSI_UNSUPPORTED, -EOPNOTSUPP },
		{ "range", 5, 0x21, 0, SCSI_IDENTIFY, -EIO },
		{ "no LUN", 5, 0x25, 0, SCSI_IDENTIFY, -EIO },
		{ "illegal, unknown", 5, 0x99, 0, SCSI_FAILED, -EIO },
		{ "reset", 6, 0x29, 0, SCSI_AGAIN, -EIO },
		{ "capacity", 6, 0x2a, 9, SCSI_IDENTIFY, -EIO },
		{ "inquiry data", 6, 0x3f, 3, SCSI_IDENTIFY, -EIO },
		{ "LUN list", 6, 0x3f, 0xe, SCSI_IDENTIFY, -EIO },
		{ "protected", 7, 0x27, 0, SCSI_FAILED, -EROFS },
		{ "thin pool full", 7, 0x27, 7, SCSI_FAILED, -ENOSPC },
		{ "aborted", 0xb, 0, 0, SCSI_AGAIN_LATER, -EIO },
		{ "vendor", 9, 0x80, 1, SCSI_FAILED, -EIO },
		{ "overflow", 0xd, 0, 0, SCSI_FAILED, -ENOSPC },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		uint8_t fixed[18] = { 0x70, 0, rows[i].key, 0,		 0,
				      0,    0, 10,	    0,		 0,
				      0,    0, rows[i].asc, rows[i].ascq };
		uint8_t described[8] = { 0x72, rows[i].key, rows[i].asc, rows[i].ascq };
		struct scsi_outcome o;

		scsi_judge(SCSI_CHECK_CONDITION, fixed, sizeof(fixed), &o);
		ROW_EQ(rows[i].name, o.verdict, rows[i].verdict);
		ROW_EQ(rows[i].name, o.error, rows[i].error);
		scsi_judge(SCSI_CHECK_CONDITION, described, sizeof(described), &o);
		ROW_EQ(rows[i].name, o.verdict, rows[i].verdict);
		ROW_EQ(rows[i].name, o.error, rows[i].error);
	}
}
END_TEST

START_TEST(status_to_errno)
{
	static const struct {
		uint8_t status;
		enum scsi_verdict verdict;
		int error;
		const char *text;
	} rows[] = {
		{ 0x00, SCSI_DONE, 0, "good" },
		{ 0x04, SCSI_DONE, 0, "condition met" },
		{ 0x08, SCSI_AGAIN_LATER, -EIO, "busy" },
		{ 0x18, SCSI_FAILED, -EACCES, "reservation conflict" },
		{ 0x28, SCSI_AGAIN_LATER, -EIO, "task set full" },
		{ 0x30, SCSI_AGAIN_LATER, -EIO, "ACA active" },
		{ 0x40, SCSI_AGAIN_LATER, -EIO, "task aborted" },
		{ 0x02, SCSI_FAILED, -EIO, "SCSI status 0x02" },
		{ 0x99, SCSI_FAILED, -EIO, "SCSI status 0x99" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct scsi_outcome o;
		char text[64];

		scsi_judge(rows[i].status, NULL, 0, &o);
		ROW_EQ(rows[i].text, o.verdict, rows[i].verdict);
		ROW_EQ(rows[i].text, o.error, rows[i].error);
		scsi_describe(&o, text, sizeof(text));
		ROW_STR_EQ(rows[i].text, text, rows[i].text);
	}
}
END_TEST

START_TEST(the_information_field)
{
	static const char fixed[] = "\xf0\0\3\0\0\x12\x34\x0a\0\0\0\0\x11\0\0\0\0\0";
	static const char described[] = "\x72\3\x11\0\0\0\0\x12"
					"\x02\x04\0\0\0\0"
					"\0\x0a\x80\0\0\0\0\1\0\0\0\2";
	struct scsi_outcome o;
	char text[64];

	scsi_judge(SCSI_CHECK_CONDITION, BYTES(fixed), &o);
	ck_assert(o.has_information && o.information == 0x1234);
	scsi_describe(&o, text, sizeof(text));
	ck_assert_str_eq(text, "medium error (3/1100)");
	scsi_judge(SCSI_CHECK_CONDITION, BYTES(described), &o);
	ck_assert(o.has_information && o.information == 0x100000002ull);
	/* cut off, and not valid */
	scsi_judge(SCSI_CHECK_CONDITION, (const uint8_t *)described, 20, &o);
	ck_assert(o.has_sense && !o.has_information);
	scsi_judge(SCSI_CHECK_CONDITION, BYTES("\x70\0\3\0\0\x12\x34\x0a"), &o);
	ck_assert(o.has_sense && !o.has_information);
}
END_TEST

/* Whatever bytes come, nothing is read past their end (a sanitizer watches). */
START_TEST(any_bytes_are_survived)
{
	struct unit_random random = unit_random_start("check_scsi");

	for (int i = 0; i < 200000; i++) {
		size_t len = unit_random_below(&random, 72);
		uint8_t *data = malloc(len ? len : 1);
		char text[260];
		struct scsi_identity id;
		struct scsi_limits limits;
		struct scsi_provisioning p;
		struct scsi_capacity c;
		struct scsi_caching caching;
		struct scsi_lba_run runs[3];
		struct scsi_outcome o;
		uint64_t key;
		uint8_t type;
		size_t n;
		bool flag;

		for (size_t j = 0; j < len; j++)
			data[j] = (uint8_t)(unit_random_below(&random, 3) ?
						    unit_random_below(&random, 20) :
						    unit_random_below(&random, 256));
		if (len > 1) {
			static const uint8_t pages[] = { 0, 0x80, 0x83, 0xb0, 0xb2 };

			data[1] = pages[unit_random_below(&random, sizeof(pages))];
			data[0] = unit_random_below(&random, 2) ? 0x72 : data[0];
		}
		scsi_parse_inquiry(data, len, &id);
		scsi_has_page(data, len, 0x83);
		scsi_parse_serial(data, len, text);
		if (scsi_parse_wwn(data, len, text) == 0)
			ck_assert_uint_lt(strlen(text), sizeof(text));
		scsi_parse_limits(data, len, &limits);
		scsi_parse_provisioning(data, len, &p);
		scsi_parse_capacity16(data, len, &c);
		scsi_parse_capacity10(data, len, &c);
		scsi_parse_caching(data, len, &caching);
		scsi_parse_lba_status(data, len, runs, ROWS(runs), &n);
		scsi_parse_keys(data, len, 1, &key);
		scsi_has_key(data, len, 1);
		scsi_parse_reservation(data, len, &flag, &key, &type);
		scsi_parse_pr_capabilities(data, len, &flag);
		scsi_judge(SCSI_CHECK_CONDITION, data, len, &o);
		free(data);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		commands_have_the_bytes_of_the_standard,
		inquiry_gives_trimmed_printable_texts,
		pages_are_looked_up,
		serials_are_trimmed_and_bounded,
		the_best_designator_is_the_wwn,
		limits_and_provisioning,
		capacities,
		the_write_cache_is_found_behind_other_pages,
		lba_status_gives_all_descriptors,
		reservation_data,
		sense_to_errno,
		status_to_errno,
		the_information_field,
		any_bytes_are_survived,
	};

	return unit_main("scsi", tests, ROWS(tests));
}
