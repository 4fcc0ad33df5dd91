from django.urls import URLPattern, include, path

from loyalty import liability_pages, movement_pages, referral_pages, reward_pages, views, voucher_pages, wallet_pages

app_name = "loyalty"
staff = [
    path("", views.overview, name="overview"),
    path("accounts/<int:customer_id>/", views.account, name="account"),
    path("accounts/<int:customer_id>/redeem/", views.redeem, name="points-redeem"),
    path("accounts/<int:customer_id>/adjust/", views.adjust, name="points-adjust"),
    path("accounts/<int:customer_id>/entries/<int:entry_id>/undo/", views.undo, name="points-undo"),
    path("accounts/<int:customer_id>/move/", movement_pages.move, name="points-move"),
    path("accounts/<int:customer_id>/transfer/", movement_pages.transfer, name="points-transfer"),
    path("accounts/<int:customer_id>/household/join/", movement_pages.household_join, name="household-join"),
    path("accounts/<int:customer_id>/household/leave/", movement_pages.household_leave, name="household-leave"),
    path("accounts/<int:customer_id>/merge/", movement_pages.merge, name="points-merge"),
    path("accounts/<int:customer_id>/merges/<int:pk>/undo/", movement_pages.unmerge, name="points-unmerge"),
    path("accounts/<int:customer_id>/holds/<int:pk>/void/", movement_pages.hold_void, name="hold-void"),
    path("approvals/", movement_pages.approval_list, name="approvals"),
    path("approvals/<int:pk>/decide/", movement_pages.approval_decide, name="approval-decide"),
    path("goodwill/", movement_pages.goodwill_page, name="goodwill"),
    path("frozen/", movement_pages.frozen_list, name="frozen"),
    path("frozen/<int:pk>/", movement_pages.unfreeze, name="unfreeze"),
    path("liability/", liability_pages.overview, name="liability"),
    path("liability/<str:name>.csv", liability_pages.table, name="liability-csv"),
    path("liability/people/<str:which>/", liability_pages.people, name="liability-people"),
    path("accounts/<int:customer_id>/rewards/", reward_pages.counter, name="counter"),
    path("accounts/<int:customer_id>/rewards/<int:pk>/redeem/", reward_pages.counter_redeem, name="counter-redeem"),
    path("rewards/", reward_pages.reward_list, name="rewards"),
    path("rewards/new/", reward_pages.reward_new, name="reward-new"),
    path("rewards/<int:pk>/", reward_pages.reward_edit, name="reward"),
    path("redemptions/", reward_pages.redemption_list, name="redemptions"),
    path("redemptions/<int:pk>/prepare/", reward_pages.redemption_prepare, name="redemption-prepare"),
    path("redemptions/<int:pk>/hand-out/", reward_pages.redemption_hand_out, name="redemption-hand-out"),
    path("redemptions/<int:pk>/cancel/", reward_pages.redemption_cancel, name="redemption-cancel"),
    path("referrals/", referral_pages.referral_list, name="referrals"),
    path("referrals/offer/", referral_pages.offer_edit, name="referral-offer"),
    path("referrals/<int:pk>/approve/", referral_pages.referral_approve, name="referral-approve"),
    path("referrals/<int:pk>/refuse/", referral_pages.referral_refuse, name="referral-refuse"),
    path("vouchers/", voucher_pages.series_list, name="vouchers"),
    path("vouchers/new/", voucher_pages.series_new, name="voucher-new"),
    path("vouchers/<int:pk>/", voucher_pages.series_detail, name="voucher-series"),
    path("vouchers/<int:pk>/upload/", voucher_pages.series_upload, name="voucher-upload"),
    path("vouchers/<int:pk>/generate/", voucher_pages.series_generate, name="voucher-generate"),
    path("vouchers/<int:pk>/issue/", voucher_pages.series_issue, name="voucher-issue"),
]
public: list[URLPattern] = [
    path("w/<str:token>/", wallet_pages.show, name="wallet"),
    path("w/<str:token>/rewards/<int:pk>/", wallet_pages.redeem, name="wallet-redeem"),
    path("w/<str:token>/redemptions/<int:pk>/undo/", wallet_pages.undo, name="wallet-undo"),
    path("r/<slug:code>/", referral_pages.landing, name="referral-public"),
    path("programmes/<slug:key>/", wallet_pages.programme, name="programme-public"),
]
"""For customers: no sign-in, the address itself is the proof."""
urlpatterns = [path("loyalty/", include(staff)), path("p/", include(public))]
