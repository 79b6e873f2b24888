// Writes a completion script to standard output; run at build time.
#include <cstdio>
#include <string_view>

#include "cli/completion.hpp"

int main(int argc, char** argv) {
    const std::string_view shell = argc == 2 ? argv[1] : "";
    if (shell != "bash" && shell != "zsh") {
        std::fputs("usage: generate-completion bash|zsh\n", stderr);
        return 2;
    }
    const std::string script = shell == "bash" ? storctl::cli::bash_completion() : storctl::cli::zsh_completion();
    return std::fwrite(script.data(), 1, script.size(), stdout) == script.size() && std::fflush(stdout) == 0 ? 0 : 1;
}
