#pragma once
// Text for a terminal: how many columns it takes, foreign bytes made harmless, cutting, colour. Pure; any thread.

#include <cstddef>
#include <string>
#include <string_view>

namespace storctl::cli {

enum class Style { plain, heading, good, warning, bad, dim };

/// Columns that `text` takes (UTF-8; combining marks 0, East Asian wide and emoji 2).
size_t display_width(std::string_view text);
/// Control characters (ESC, newline, C1) and bytes that are not UTF-8 as \xNN: a disk's model must not drive the
/// terminal.
std::string printable(std::string_view text);
/// At most `columns` wide, ending in "…" where something was left out.
std::string cut(std::string_view text, size_t columns);
/// As one types it for a shell: quoted where it has to be.
std::string shell_quote(std::string_view text);
/// In the style's colour; unchanged when `colour` is off.
std::string styled(std::string_view text, Style style, bool colour);

}  // namespace storctl::cli
