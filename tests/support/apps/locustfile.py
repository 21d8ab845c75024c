"""What Locust does to the API of ships."""

from locust import HttpUser, constant_pacing, task


class Pilot(HttpUser):
    wait_time = constant_pacing(0.2)

    @task
    def look(self):
        self.client.get("/ships")
