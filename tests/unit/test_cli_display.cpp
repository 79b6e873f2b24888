#include <doctest/doctest.h>

#include "cli/display.hpp"

using namespace storctl::cli;

TEST_CASE("display_width counts terminal columns, not bytes") {
    struct Row {
        const char* name;
        std::string_view text;
        size_t width;
    };
    const Row rows[] = {
        {"nothing", "", 0},
        {"ASCII", "sda", 3},
        {"a letter of two bytes takes one column", "Ünit", 4},
        {"a combining mark takes none", "e\u0301", 1},
        {"East Asian letters take two", "日立", 4},
        {"an emoji takes two", "\U0001f4be", 2},
        {"a byte that is not UTF-8 takes one", "a\xff", 2},
        {"a character cut short takes one per byte", "\xe6\x97", 2},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        CHECK(display_width(row.text) == row.width);
    }
}

TEST_CASE("printable leaves nothing that drives a terminal") {
    CHECK(printable("QEMU HARDDISK") == "QEMU HARDDISK");
    CHECK(printable("日立 µ") == "日立 µ");
    CHECK(printable("a\x1b[2Jb") == "a\\x1b[2Jb");
    CHECK(printable("a\nb\tc\x7f") == "a\\x0ab\\x09c\\x7f");
    CHECK(printable("\xc2\x9b") == "\\xc2\\x9b");           // C1: CSI in one character
    CHECK(printable("\u202egnp") == "\\xe2\\x80\\xaegnp");  // right-to-left override
    CHECK(printable("\xff\xfe") == "\\xff\\xfe");
    CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // a surrogate
    CHECK(printable(std::string_view("a\0b", 3)) == "a\\x00b");
}

TEST_CASE("cut keeps within its columns and shows that something is missing") {
    CHECK(cut("naa6.6001405", 20) == "naa6.6001405");
    CHECK(cut("naa6.6001405", 12) == "naa6.6001405");
    CHECK(cut("naa6.6001405", 6) == "naa6.…");
    CHECK(cut("日立日立", 5) == "日立…");
    CHECK(cut("日立日立", 4) == "日…");
    CHECK(cut("abc", 1) == "…");
    CHECK(cut("abc", 0) == "");
}

TEST_CASE("styled adds colour only when there is to be colour and something to colour") {
    CHECK(styled("serving", Style::good, true) == "\x1b[32mserving\x1b[0m");
    CHECK(styled("serving", Style::good, false) == "serving");
    CHECK(styled("serving", Style::plain, true) == "serving");
    CHECK(styled("", Style::bad, true) == "");
}
