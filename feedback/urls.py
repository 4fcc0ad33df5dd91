"""Full paths, since the public pages live under /p/: include it at the root."""

from django.urls import path

from feedback import views

app_name = "feedback"
urlpatterns = [
    path("p/s/<str:token>/", views.survey, name="survey"),
    path("feedback/", views.overview, name="overview"),
    path("feedback/answers/", views.responses, name="responses"),
    path("feedback/links/", views.make_link, name="link-create"),
    path("feedback/cases/<int:pk>/", views.case, name="case"),
    path("feedback/cases/<int:pk>/answer/", views.answer_case, name="case-answer"),
    path("feedback/cases/<int:pk>/note/", views.note_case, name="case-note"),
    path("feedback/cases/<int:pk>/assign/", views.assign_case, name="case-assign"),
    path("feedback/cases/<int:pk>/close/", views.close_case, name="case-close"),
]
