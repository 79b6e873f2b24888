#pragma once
// A call to stord from the command line: connects, calls, and turns what went wrong into a message and an exit code.
// Main thread.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "cli/exit.hpp"
#include "control/client.hpp"

namespace storctl::cli {

using Json = nlohmann::json;

/// What a user reads when a call was not answered as hoped.
struct Failure {
    Exit exit = Exit::failed;
    std::string message;
    std::vector<std::string> items;  ///< blockers, candidates
    bool timed_out = false;          ///< stord has the call and works on it
    bool stopped = false;            ///< so it does here, and the wait was to end
};

/// A Varlink error of stord's.
Failure explain_reply(const std::string& error_name, const Json& parameters);
/// No connection, or no answer. `connected`: the connection had been there.
Failure explain_transport(const Error& error, const std::string& socket_path, bool connected);

/// The limit is over, stord is not through. `awaited`: as of Connection::try_long_call.
Failure still_at_work(std::string_view awaited, std::chrono::milliseconds waited);

/// Reports it; gives its exit code.
Exit report_failure(const Failure& failure);

class Connection {
 public:
    explicit Connection(const std::string& run_dir);
    ~Connection();

    /// A stord that hangs must still end the command.
    static constexpr std::chrono::milliseconds default_timeout{std::chrono::minutes(1)};
    /// Starting a node may take as long as stord.toml's start_timeout allows, 10 min at the most.
    static constexpr std::chrono::milliseconds start_timeout{std::chrono::minutes(11)};
    /// Moving drivers waits for disks that do not answer and for virtual machines that let go. storctl-usb(8) and
    /// storctl-pci(8) say it.
    static constexpr std::chrono::milliseconds drivers_timeout{std::chrono::minutes(11)};

    /// The answer's parameters. Nothing: what went wrong has been reported, and `exit()` is how to end.
    std::optional<Json> call(const std::string& method, Json parameters = Json::object(),
                             std::chrono::milliseconds timeout = default_timeout);
    /// As `call`, but leaves the reporting to the caller, in `failure()`.
    std::optional<Json> try_call(const std::string& method, Json parameters = Json::object(),
                                 std::chrono::milliseconds timeout = default_timeout);
    /// For stord's moving of drivers: as `try_call`, and says on standard error what is waited for (`awaited`) where it
    /// takes long; a failure by the limit says that the work goes on. `stop`: a descriptor that ends the wait when it
    /// is readable.
    std::optional<Json> try_long_call(const std::string& method, Json parameters, const std::string& awaited,
                                      int stop = -1);
    /// A stream until `on_answer` returns false (then done) or it ends (reported).
    Exit stream(const std::string& method, const std::function<bool(const Json&)>& on_answer);

    /// Those that came with the last answer; they are closed with the next call.
    std::vector<UniqueFd> take_descriptors() { return std::exchange(descriptors_, {}); }

    const Failure& failure() const { return failure_; }
    Exit exit() const { return failure_.exit; }

 private:
    bool connect();
    std::string socket_path_;
    std::unique_ptr<control::Client> client_;
    std::vector<UniqueFd> descriptors_;
    Failure failure_;
};

}  // namespace storctl::cli
