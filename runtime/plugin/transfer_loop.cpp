#include "runtime/plugin/transfer_loop.h"

#include <curl/curl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace annal {

using Steady = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

/// What epoll says when the loop is woken; no descriptor has this number.
constexpr std::uint64_t kWake = UINT64_MAX;

struct TransferLoop::Callbacks {
    static int on_socket(CURL*, curl_socket_t socket, int what, void* user, void*) noexcept {
        std::uint32_t events = 0;
        if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) events |= EPOLLIN;
        if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) events |= EPOLLOUT;
        static_cast<TransferLoop*>(user)->want(socket, events);
        return 0;
    }
    static int on_timer(CURLM*, long timeout_ms, void* user) noexcept {
        auto& due = static_cast<TransferLoop*>(user)->due_;
        due.reset();
        if (timeout_ms >= 0) due = Steady::now() + Milliseconds(timeout_ms);
        return 0;
    }
};

TransferLoop::TransferLoop(std::size_t connections_max) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = kWake;
    if (epoll_ < 0 || wake_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) return;
    multi_ = curl_multi_init();
    if (multi_ == nullptr) return;
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Callbacks::on_socket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Callbacks::on_timer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_NOTHING));
    curl_multi_setopt(
        multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(std::max<std::size_t>(connections_max, 1))
    );
}

TransferLoop::~TransferLoop() {
    if (multi_ != nullptr) curl_multi_cleanup(multi_);
    if (epoll_ >= 0) close(epoll_);
    if (wake_ >= 0) close(wake_);
}

bool TransferLoop::add(void* easy) {
    return works() && curl_multi_add_handle(multi_, easy) == CURLM_OK;
}

void TransferLoop::remove(void* easy) {
    curl_multi_remove_handle(multi_, easy);
}

TransferLoop::Watch& TransferLoop::watch(int socket) {
    const auto index = static_cast<std::size_t>(socket);
    if (index >= watches_.size()) watches_.resize(std::max(index + 1, watches_.size() * 2));
    return watches_[index];
}

void TransferLoop::forget(int socket) {
    Watch& known = watch(socket);
    known = {0, 0, known.life + 1};
}

/// A socket between two requests stays registered: on a kept connection that saves two system
/// calls of five. Should it become readable then, `act` takes it out.
void TransferLoop::want(int socket, std::uint32_t events) {
    Watch& known = watch(socket);
    known.wanted = events;
    if (events == 0 || events == known.registered) return;
    epoll_event event{};
    event.events = events;
    event.data.u64 = std::uint64_t{known.life} << 32 | static_cast<std::uint32_t>(socket);
    const int first = known.registered == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    int code = epoll_ctl(epoll_, first, socket, &event);
    if (code != 0 && errno == ENOENT) code = epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event);
    if (code != 0 && errno == EEXIST) code = epoll_ctl(epoll_, EPOLL_CTL_MOD, socket, &event);
    known.registered = code == 0 ? events : 0;
}

void TransferLoop::act(const epoll_event& event) {
    if (event.data.u64 == kWake) {
        std::uint64_t count = 0;
        (void)!read(wake_, &count, sizeof(count));  // only that it was woken matters
        return;
    }
    const int socket = static_cast<int>(event.data.u64 & 0xffffffffU);
    Watch& known = watch(socket);
    if (known.life != event.data.u64 >> 32) return;  // closed since epoll said so
    if (known.wanted == 0) {
        known.registered = 0;
        epoll_ctl(epoll_, EPOLL_CTL_DEL, socket, nullptr);
        return;
    }
    int mask = 0, running = 0;
    if ((event.events & EPOLLIN) != 0) mask |= CURL_CSELECT_IN;
    if ((event.events & EPOLLOUT) != 0) mask |= CURL_CSELECT_OUT;
    if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) mask |= CURL_CSELECT_ERR;
    curl_multi_socket_action(multi_, socket, mask, &running);
}

void TransferLoop::act_on_time() {
    int running = 0;
    // What is added begins by a timeout that is due at once, and so may set the next one.
    for (int i = 0; i < 4 && due_ && *due_ <= Steady::now(); ++i) {
        due_.reset();
        curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

int TransferLoop::wait_ms(Milliseconds wait_max) const {
    if (!due_) return static_cast<int>(wait_max.count());
    const auto left = std::chrono::ceil<Milliseconds>(*due_ - Steady::now());
    return static_cast<int>(std::clamp(left, Milliseconds(0), wait_max).count());
}

void TransferLoop::wake() {
    if (!asleep_.exchange(false)) return;
    const std::uint64_t one = 1;
    (void)!write(wake_, &one, sizeof(one));  // full means that it will wake
}

const std::vector<TransferLoop::Ended>& TransferLoop::turn(Milliseconds wait_max) {
    ended_.clear();
    if (!works()) return ended_;
    act_on_time();
    collect();
    const int count = epoll_wait(
        epoll_,
        events_.data(),
        static_cast<int>(events_.size()),
        ended_.empty() ? wait_ms(wait_max) : 0
    );
    asleep_ = false;
    for (int i = 0; i < count; ++i) act(events_[static_cast<std::size_t>(i)]);
    act_on_time();
    collect();
    return ended_;
}

void TransferLoop::collect() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg == CURLMSG_DONE)
            ended_.push_back({message->easy_handle, message->data.result});
    }
}

}  // namespace annal
