#include "runtime/store/suspend.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "runtime/core/task_impl.h"

namespace annal {
namespace asio = boost::asio;
namespace {

template <class Handler>
class HandlerDone final : public Done {
public:
    explicit HandlerDone(Handler handler)
        : handler_(std::move(handler)), work_(asio::make_work_guard(handler_)) {}
    void operator()() override {
        asio::post(work_.get_executor(), std::move(handler_));
        work_.reset();
    }

private:
    Handler handler_;
    asio::executor_work_guard<asio::associated_executor_t<Handler>> work_;
};

}  // namespace

Task<void> suspend(std::function<void(std::shared_ptr<Done>)> start) {
    auto initiation = [start = std::move(start)](auto&& handler) mutable {
        using Handler = std::decay_t<decltype(handler)>;
        start(std::make_shared<HandlerDone<Handler>>(std::forward<decltype(handler)>(handler)));
    };
    return asio::async_initiate<const asio::use_awaitable_t<>, void()>(
        std::move(initiation), asio::use_awaitable
    );
}

}  // namespace annal
