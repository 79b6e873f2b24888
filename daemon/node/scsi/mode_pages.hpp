#pragma once
// MODE SENSE and MODE SELECT (SPC-5), with the pages Caching (SBC-4), Control and Informational Exceptions Control. A
// value: what can be changed are WCE (Caching), D_SENSE and SWP (Control); nothing is saved. Pure.

#include "daemon/node/scsi/identity.hpp"
#include "daemon/node/scsi/sense.hpp"

namespace storctl::node::scsi {

struct ModeValues {
    bool write_cache = false;             ///< WCE
    bool descriptor_sense = false;        ///< D_SENSE
    bool software_write_protect = false;  ///< SWP
    bool operator==(const ModeValues&) const = default;
};

inline ModeValues default_mode_values(const Geometry& geometry) { return {.write_cache = geometry.write_cache}; }

/// `write_protected`: the WP bit as this nexus sees it. The CDB is one of MODE SENSE(6) or (10).
Reply mode_sense(const ModeValues& values, const Geometry& geometry, bool write_protected, ByteView cdb);

/// The values after a MODE SELECT(6) or (10) with these parameters, or why nothing changes. `parameters` has as many
/// bytes as the CDB's parameter list length says.
std::variant<ModeValues, Sense> mode_select(const ModeValues& values, const Geometry& geometry, ByteView cdb,
                                            ByteView parameters);

}  // namespace storctl::node::scsi
