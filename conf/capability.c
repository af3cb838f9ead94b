/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/capability.h"

#define VALUE_(symbol, number, name) { number, name },
#define MAP_(map, property, table)                                        \
	static const struct cim_value map##_values[] = { table(VALUE_) }; \
	const struct cim_map map = { property, map##_values,              \
				     sizeof(map##_values) / sizeof(map##_values[0]) }

MAP_(capability_replication_type, "SupportedReplicationTypes",
     CAPABILITY_REPLICATION_TYPE);
MAP_(capability_storage_object, "SupportedStorageObjects", CAPABILITY_STORAGE_OBJECT);
MAP_(capability_action, "SupportedSynchronousActions", CAPABILITY_ACTION);
MAP_(capability_feature, "Features", CAPABILITY_FEATURE);
MAP_(capability_group_feature, "GroupFeatures", CAPABILITY_GROUP_FEATURE);
MAP_(capability_thin_feature, "ThinProvisioningFeatures", CAPABILITY_THIN_FEATURE);
MAP_(capability_component, "Component", CAPABILITY_COMPONENT);
MAP_(capability_persistency, "DefaultGroupPersistency", CAPABILITY_PERSISTENCY);

unsigned capability_type_of(unsigned sync_type, unsigned mode, bool remote)
{
	unsigned n = sync_type - CIM_SYNC_MIRROR;

	if (mode == CIM_MODE_ADAPTIVE)
		return CAPABILITY_ADAPTIVE_MIRROR_LOCAL + 2 * n + remote;
	return CAPABILITY_SYNC_MIRROR_LOCAL + 4 * n + 2u * remote +
	       (mode - CIM_MODE_SYNCHRONOUS);
}
